// libFuzzer: complete loads of a file, in place and into new memory. A load that fails must change
// no variable, unless it writes in place. Both ways must write the same numbers, and
// examine_content must find no damage in a file that loads.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "fuzz_input.h"
#include "weights/header.h"
#include "weights/load.h"

namespace {

using namespace yolotf;

constexpr std::uint64_t kHeader = kWideHeaderBytes;
constexpr float kBefore = -77.0F;

class Memory : public Variables {
 public:
  Memory(const std::vector<Segment>& segments, Dtype dtype, bool begins, bool in_place)
      : segments_(segments), dtype_(dtype), begins_(begins), in_place_(in_place) {
    for (const Segment& segment : segments) {
      const std::uint64_t most = 1 << 16;
      floats.emplace_back(std::min(segment.count(), most), kBefore);
    }
    written_ = floats;
  }
  bool lock(std::vector<Target>* targets, Error*) override {
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      Target target;
      target.dtype = dtype_;
      target.initialized = true;
      target.rank = segments_[i].rank;
      for (int axis = 0; axis < segments_[i].rank && axis < kMaxRank; ++axis) {
        target.shape[axis] = segments_[i].shape[axis];
      }
      target.data = (in_place_ ? floats : written_)[i].data();
      targets->push_back(target);
    }
    return true;
  }
  bool begin(std::vector<Target>*) override { return begins_; }
  void commit() override {
    committed = true;
    if (!in_place_) {
      floats.swap(written_);
    }
  }

  std::vector<std::vector<float>> floats;
  bool committed = false;

 private:
  const std::vector<Segment>& segments_;
  Dtype dtype_;
  bool begins_;
  bool in_place_;
  std::vector<std::vector<float>> written_;
};

class Helpers : public Threads {
 public:
  explicit Helpers(int count) : count_(count) {}
  ~Helpers() override {
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }
  int max_helpers() const override { return count_; }
  void start(std::function<void()> work) override { threads_.emplace_back(std::move(work)); }

 private:
  int count_;
  std::vector<std::thread> threads_;
};

// Most segments are adjacent and have a shape that fits; some consist of any numbers.
std::vector<Segment> segments_of(FuzzInput* input, std::uint64_t* end) {
  std::vector<Segment> segments;
  for (std::int64_t remaining = 1 + input->below(4); remaining > 0; --remaining) {
    Segment segment;
    segment.filters = static_cast<std::uint64_t>(1 + input->below(20));
    segment.channels = static_cast<std::uint64_t>(1 + input->below(12));
    segment.spatial = static_cast<std::uint64_t>(1 + input->below(9));
    segment.role = static_cast<Role>(input->below(7));
    if (segment.role != Role::kKernel) {
      segment.channels = segment.spatial = 1;
    }
    if (segment.role == Role::kKernel && input->flag()) {  // a batch normalization to fold in
      segment.norm_offset = *end;
      *end += kNormArrays * kFloatBytes * segment.filters;
    }
    segment.offset = *end;
    *end += kFloatBytes * segment.count();
    if (segment.role == Role::kKernel) {
      segment.rank = 3;
      segment.shape[0] = segment.spatial;
      segment.shape[1] = segment.channels;
      segment.shape[2] = segment.filters;
    } else {
      segment.rank = 1;
      segment.shape[0] = segment.count();
    }
    if (input->below(16) == 15) {
      segment.offset = static_cast<std::uint64_t>(input->number());
      segment.filters = static_cast<std::uint64_t>(input->number());
      segment.shape[0] = static_cast<std::uint64_t>(input->number());
    }
    segments.push_back(segment);
  }
  return segments;
}

std::string write_file(const std::string& content) {
  static const std::string path = [] {
    char name[] = "/tmp/fuzz_load.XXXXXX";
    const int descriptor = mkstemp(name);
    expect(descriptor >= 0);
    close(descriptor);
    static std::string to_unlink = name;
    std::atexit([] { unlink(to_unlink.c_str()); });
    return to_unlink;
  }();
  const int descriptor = open(path.c_str(), O_WRONLY | O_TRUNC);
  expect(write(descriptor, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  close(descriptor);
  return path;
}

bool untouched(const Memory& memory) {
  for (const std::vector<float>& floats : memory.floats) {
    for (const float number : floats) {
      if (number != kBefore) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(data, size);
  std::uint64_t end = kHeader;
  LoadRequest request;
  request.segments = segments_of(&input, &end);
  request.cast = input.flag();
  request.verify = input.below(4) != 0;
  request.expected_bytes = input.flag() ? static_cast<std::int64_t>(end) : -1;
  const Dtype dtype = input.below(8) == 7 ? Dtype::kFloat16 : Dtype::kFloat32;
  const bool begins = input.below(16) != 15;
  const int helpers = static_cast<int>(input.below(3));
  const std::int64_t file_kind = input.below(16);
  const bool whole = input.below(8) != 7;
  const bool other_header = input.below(32) == 31;
  std::string content(kHeader, '\0');
  content[4] = 2;
  request.header = content;
  while (content.size() < (whole ? end : kHeader) || input.size() > 0) {
    const float number =
        input.size() > 0 ? input.real() : 0.25F * static_cast<float>(content.size() % 23);
    content.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  if (whole) {
    content.resize(end);
  }
  if (other_header) {
    content[5] = 1;  // not the header that the plan was made for
  }
  request.path = write_file(content);
  // A file that is open for writing has to be copied; a folder, a device or a missing file must be
  // rejected.
  const int writer = file_kind < 4 ? open(request.path.c_str(), O_WRONLY) : -1;
  if (file_kind > 12) {
    const char* unreadable[] = {"/tmp", "/dev/null", "/tmp/fuzz_load.none"};
    request.path = unreadable[file_kind - 13];
  }

  std::vector<std::vector<std::vector<float>>> numbers;
  for (const bool in_place : {false, true}) {
    Memory memory(request.segments, dtype, begins, in_place);
    Helpers threads(helpers);
    LoadStats stats;
    LoadError error;
    const bool loaded = load(request, &memory, &threads, &stats, &error);
    expect(loaded == memory.committed);
    expect(loaded || in_place || untouched(memory));
    expect(loaded || !describe(error.error).empty());
    if (!in_place) {
      std::vector<Error> errors;
      LoadError examine_error;
      const bool examined = examine_content(request.path, kHeader, request.segments, &threads,
                                            &errors, &examine_error);
      expect(!loaded || examined);
      expect(!loaded || !request.verify || errors.empty());
      for (const Error& damage : errors) {
        expect(!describe(damage).empty());
      }
    }
    if (loaded) {
      numbers.push_back(memory.floats);
    }
  }
  if (writer >= 0) {
    close(writer);
  }
  if (numbers.size() == 2) {
    for (std::size_t i = 0; i < numbers[0].size(); ++i) {
      // By bits, because of NaN.
      expect(std::memcmp(numbers[0][i].data(), numbers[1][i].data(),
                         sizeof(float) * numbers[0][i].size()) == 0);
    }
  }
  return 0;
}
