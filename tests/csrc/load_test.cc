#include "weights/load.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <initializer_list>
#include <new>
#include <thread>

#include "folder.h"
#include "testing.h"
#include "weights/header.h"

TEST_SUITE_BEGIN("load");

namespace yolotf {
namespace {

// Variables in the test's memory. A load writes in place, or into new memory until commit().
// Records the calls.
class Memory : public Variables {
 public:
  explicit Memory(const std::vector<Segment>& segments, bool in_place = false)
      : segments_(segments), in_place_(in_place) {
    for (const Segment& segment : segments) {
      floats.emplace_back(segment.count(), -1.0F);
    }
    written_ = floats;
  }

  bool lock(std::vector<Target>* targets, Error*) override {
    calls += "lock ";
    for (const Segment& segment : segments_) {
      targets->push_back(target_of(segment, dtype, nullptr));
    }
    return true;
  }
  bool begin(std::vector<Target>* targets) override {
    calls += "begin ";
    for (std::size_t i = 0; i < targets->size(); ++i) {
      (*targets)[i].data = (in_place_ ? floats : written_)[i].data();
    }
    if (when_begun) {
      when_begun();
    }
    return begins;
  }
  void commit() override {
    calls += "commit";
    if (!in_place_) {
      floats.swap(written_);
    }
  }

  std::vector<std::vector<float>> floats;
  std::string calls;
  Dtype dtype = Dtype::kFloat32;
  bool begins = true;
  std::function<void()> when_begun;

 private:
  std::vector<Segment> segments_;
  bool in_place_;
  std::vector<std::vector<float>> written_;
};

// Threads that begin at once, late or never.
class TestThreads : public Threads {
 public:
  explicit TestThreads(int helpers, unsigned delay_us = 0) : helpers_(helpers), delay_(delay_us) {}
  ~TestThreads() override {
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }
  int max_helpers() const override { return helpers_; }
  void start(std::function<void()> work) override {
    if (delay_ == kNever) {
      return;
    }
    threads_.emplace_back([work = std::move(work), delay = delay_] {
      usleep(delay);
      work();
    });
  }
  static constexpr unsigned kNever = ~0U;

 private:
  int helpers_;
  unsigned delay_;
  std::vector<std::thread> threads_;
};

// beta, moving_variance and a kernel: 30 floats behind a header of 20 bytes.
std::vector<Segment> three_segments() {
  return {segment_of(20, 1, 1, 3, 1, Role::kBeta),
          segment_of(32, 1, 1, 3, 1, Role::kMovingVariance), segment_of(44, 1, 3, 2, 4)};
}

std::vector<std::byte> three_segments_file() {
  std::vector<std::byte> whole = header_of(0, 2, 42, true);
  for (int i = 0; i < 30; ++i) {
    append(&whole, static_cast<float>(i));
  }
  return whole;
}

std::string text_of(const std::vector<std::byte>& bytes, std::uint64_t size) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), size);
}

LoadRequest request_for(const std::string& path, const std::vector<Segment>& segments) {
  LoadRequest request;
  request.path = path;
  request.header = text_of(header_of(0, 2, 42, true), 20);
  request.segments = segments;
  return request;
}

TEST_CASE("every prefix of a file is refused and writes nothing") {
  const std::vector<Segment> segments = three_segments();
  const std::vector<std::byte> whole = three_segments_file();
  for (const bool in_place : {false, true}) {
    for (std::uint64_t size = 0; size <= whole.size(); ++size) {
      Folder folder;
      LoadRequest request = request_for(folder.file(text_of(whole, size)), segments);
      request.expected_bytes = 140;
      Memory memory(segments, in_place);
      const std::vector<std::vector<float>> before = memory.floats;
      TestThreads threads(1);
      LoadStats stats;
      LoadError error;
      const bool loaded = load(request, &memory, &threads, &stats, &error);
      REQUIRE(loaded == (size == whole.size()));
      if (loaded) {
        REQUIRE(error.error.code == Code::kOk);
        REQUIRE(memory.calls == "lock begin lock commit");
        REQUIRE(memory.floats[0] == (std::vector<float>{0.0F, 1.0F, 2.0F}));
        REQUIRE(memory.floats[2][1] == 14.0F);
        REQUIRE(memory.floats[2][3] == 10.0F);
        REQUIRE(stats.threads >= 1);
        REQUIRE(stats.threads <= 2);
      } else {
        REQUIRE(error.error.code == Code::kFileTooShort);
        REQUIRE(memory.calls.empty());
        REQUIRE(memory.floats == before);
      }
    }
  }
}

TEST_CASE("a refused load leaves the variables as they were") {
  struct Case {
    std::function<void(LoadRequest*, Memory*)> change;
    Code code;
    FileCode file;
  };
  const std::vector<Segment> segments = three_segments();
  for (const Case& test : std::initializer_list<Case>{
           {[](LoadRequest* request, Memory*) { request->expected_bytes = 144; }, Code::kWrongSize,
            FileCode::kOk},
           {[](LoadRequest* request, Memory*) { request->header[4] = 9; }, Code::kOk,
            FileCode::kChanged},
           {[](LoadRequest* request, Memory*) { request->path += "x"; }, Code::kOk,
            FileCode::kSystem},
           {[](LoadRequest* request, Memory*) { request->path = "/dev/zero"; }, Code::kOk,
            FileCode::kNotRegular},
           {[](LoadRequest*, Memory* memory) { memory->dtype = Dtype::kFloat16; },
            Code::kWrongDtype, FileCode::kOk},
           {[](LoadRequest*, Memory* memory) { memory->begins = false; }, Code::kOk,
            FileCode::kOk}}) {
    Folder folder;
    const std::vector<std::byte> whole = three_segments_file();
    LoadRequest request = request_for(folder.file(text_of(whole, whole.size())), segments);
    Memory memory(segments);
    const std::vector<std::vector<float>> before = memory.floats;
    test.change(&request, &memory);
    TestThreads threads(2);
    LoadStats stats;
    LoadError error;
    REQUIRE(!load(request, &memory, &threads, &stats, &error));
    REQUIRE(error.error.code == test.code);
    REQUIRE(error.file.code == test.file);
    REQUIRE(memory.floats == before);
    REQUIRE(memory.calls.find("commit") == std::string::npos);
  }
}

TEST_CASE("without memory, a load does without threads or fails with ENOMEM") {
  class NoThreads : public Threads {
   public:
    int max_helpers() const override { return 3; }
    void start(std::function<void()>) override { throw std::bad_alloc(); }
  };
  class NoMemory : public Memory {
   public:
    using Memory::Memory;
    bool lock(std::vector<Target>*, Error*) override { throw std::bad_alloc(); }
  };
  const std::vector<Segment> segments = three_segments();
  const std::vector<std::byte> whole = three_segments_file();
  Folder folder;
  const std::string path = folder.file(text_of(whole, whole.size()));
  for (const bool in_place : {false, true}) {
    LoadRequest request = request_for(path, segments);
    LoadStats stats;
    NoThreads threads;
    Memory memory(segments, in_place);
    LoadError error;
    REQUIRE(load(request, &memory, &threads, &stats, &error));
    REQUIRE(memory.floats[0] == (std::vector<float>{0.0F, 1.0F, 2.0F}));
    NoMemory none(segments);
    const std::vector<std::vector<float>> before = none.floats;
    REQUIRE(!load(request, &none, &threads, &stats, &error));
    REQUIRE(error.file.code == FileCode::kSystem);
    REQUIRE(error.file.system_error == ENOMEM);
    REQUIRE(none.floats == before);
  }
}

TEST_CASE("bad numbers are found before anything is committed") {
  const std::vector<Segment> segments = three_segments();
  for (const bool in_place : {false, true}) {
    for (const bool verify : {false, true}) {
      for (const int bad_float : {0, 3, 29}) {
        Folder folder;
        std::vector<std::byte> whole = three_segments_file();
        const float bad = bad_float == 3 ? -1.0F : kNan;
        std::memcpy(whole.data() + 20 + 4 * bad_float, &bad, 4);
        LoadRequest request = request_for(folder.file(text_of(whole, whole.size())), segments);
        request.verify = verify;
        Memory memory(segments, in_place);
        const std::vector<std::vector<float>> before = memory.floats;
        TestThreads threads(1);
        LoadStats stats;
        LoadError error;
        REQUIRE(load(request, &memory, &threads, &stats, &error) == !verify);
        if (verify) {
          REQUIRE(error.error.code ==
                  (bad_float == 3 ? Code::kNegativeVariance : Code::kNonfinite));
          REQUIRE(error.error.offset == 20 + 4 * static_cast<std::uint64_t>(bad_float));
          REQUIRE(error.error.end == error.error.offset + 4);
          REQUIRE(error.error.found == 1);
          REQUIRE((in_place || memory.floats == before));
          REQUIRE(memory.calls == "lock begin ");
        }
      }
    }
  }
}

// A file of several parts and many tasks.
TEST_CASE("threads may start late or never") {
  std::vector<Segment> segments;
  std::uint64_t offset = 20;
  std::vector<std::byte> whole = header_of(0, 2, 42, true);
  for (const std::uint64_t filters : {16U, 32U, 48U, 64U, 128U}) {
    segments.push_back(segment_of(offset, 1, filters, 300, 9));
    offset += 4 * segments.back().count();
  }
  std::uint32_t state = 1;
  while (whole.size() < offset) {
    state = state * 1664525U + 1013904223U;
    append(&whole, static_cast<float>(state >> 8) * 1e-6F);
  }
  Folder folder;
  LoadRequest request = request_for(folder.file(text_of(whole, whole.size())), segments);
  std::vector<std::vector<float>> expected;
  for (const bool in_place : {false, true}) {
    for (const int helpers : {0, 1, 3}) {
      for (const unsigned delay : {0U, 3000U, TestThreads::kNever}) {
        Memory memory(segments, in_place);
        LoadStats stats;
        LoadError error;
        TestThreads threads(helpers, delay);
        REQUIRE(load(request, &memory, &threads, &stats, &error));
        REQUIRE(stats.threads == helpers + 1);
        REQUIRE((expected.empty() || memory.floats == expected));
        expected = memory.floats;
      }
    }
  }
  std::uint64_t from = 0;
  const Segment& first = segments[0];
  for (std::uint64_t filter = 0; filter < first.filters; ++filter) {
    for (std::uint64_t column = 0; column < first.channels * first.spatial; ++column, ++from) {
      float value;
      std::memcpy(&value, whole.data() + 20 + 4 * from, 4);
      const std::uint64_t row = column % 9 * 300 + column / 9;
      REQUIRE(expected[0][row * first.filters + filter] == value);
    }
  }
}

TEST_CASE("a folded batch normalization is checked in every way to load") {
  // gamma, mean and variance of 4; a kernel and a bias that fold them in, beta of 4.
  std::vector<Segment> segments = {segment_of(20 + 64, 1, 4, 5, 1),
                                   segment_of(20, 1, 4, 1, 1, Role::kBias)};
  for (Segment& segment : segments) {
    segment.norm_offset = 36;
  }
  for (const bool in_place : {false, true}) {
    for (int bad_float = 0; bad_float < 36; ++bad_float) {
      Folder folder;
      std::vector<std::byte> whole = header_of(0, 2, 42, true);
      for (int i = 0; i < 36; ++i) {
        append(&whole, i == bad_float ? -1.0F * kInfinity : 1.0F + static_cast<float>(i));
      }
      LoadRequest request = request_for(folder.file(text_of(whole, whole.size())), segments);
      Memory memory(segments, in_place);
      TestThreads threads(1);
      LoadStats stats;
      LoadError error;
      REQUIRE(!load(request, &memory, &threads, &stats, &error));
      REQUIRE(error.error.code == Code::kNonfinite);
      REQUIRE(error.error.offset == 20 + 4 * static_cast<std::uint64_t>(bad_float));
      const Role roles[] = {Role::kBeta, Role::kGamma, Role::kMovingMean, Role::kMovingVariance};
      const Role role = bad_float < 16 ? roles[bad_float / 4] : Role::kKernel;
      REQUIRE(error.error.role == static_cast<std::int64_t>(role));
    }
  }
}

TEST_CASE("a variable whose shape changes during the load is refused") {
  class Reshaped : public Memory {
   public:
    using Memory::Memory;
    bool lock(std::vector<Target>* targets, Error* error) override {
      const bool locked = Memory::lock(targets, error);
      (*targets)[1].shape[0] += ++times_ - 1;
      return locked;
    }

   private:
    std::uint64_t times_ = 0;
  };
  Folder folder;
  const std::vector<Segment> segments = three_segments();
  const std::vector<std::byte> whole = three_segments_file();
  const LoadRequest request = request_for(folder.file(text_of(whole, whole.size())), segments);
  Reshaped memory(segments);
  const std::vector<std::vector<float>> before = memory.floats;
  TestThreads threads(1);
  LoadStats stats;
  LoadError error;
  CHECK(!load(request, &memory, &threads, &stats, &error));
  CHECK(error.error.code == Code::kWrongShape);
  CHECK(error.error.segment == 1);
  CHECK(error.error.axis == 0);
  CHECK(error.error.found == error.error.expected + 1);
  CHECK(memory.calls == "lock begin lock ");
  CHECK(memory.floats == before);
}

// Breaks the leases on a file, as the kernel does when another process has waited too long. Returns
// whether there was a lease.
bool take_leases(const std::string& path) {
  bool leased = false;
#ifdef F_SETLEASE
  struct stat file;
  REQUIRE(stat(path.c_str(), &file) == 0);
  for (int descriptor = 0; descriptor < 256; ++descriptor) {
    struct stat status;
    if (fstat(descriptor, &status) == 0 && status.st_ino == file.st_ino &&
        status.st_dev == file.st_dev) {
      leased = leased || fcntl(descriptor, F_GETLEASE) == F_RDLCK;
      fcntl(descriptor, F_SETLEASE, F_UNLCK);
    }
  }
#endif
  return leased;
}

TEST_CASE("a file that is lost during the load is an error") {
  enum Loss { kTruncated, kEmptied, kOverwritten };
  std::vector<Segment> segments;
  std::uint64_t offset = 20;
  std::vector<std::byte> whole = header_of(0, 2, 42, true);
  for (const std::uint64_t filters : {64U, 128U}) {
    segments.push_back(segment_of(offset, 1, filters, 300, 9));
    offset += 4 * segments.back().count();
  }
  while (whole.size() < offset) {
    append(&whole, static_cast<float>(whole.size()) * 1e-6F);
  }
  for (const Loss loss : {kTruncated, kEmptied, kOverwritten}) {
    for (const bool verify : {false, true}) {
      for (const bool in_place : {false, true}) {
        Folder folder;
        const std::string path = folder.file(text_of(whole, whole.size()));
        usleep(15000);  // longer than the clock of coarse time stamps
        LoadRequest request = request_for(path, segments);
        request.verify = verify;
        Memory memory(segments, in_place);
        const std::vector<std::vector<float>> before = memory.floats;
        bool leased = false;
        memory.when_begun = [&] {
          leased = take_leases(path);
          if (loss == kOverwritten) {
            const int writer = open(path.c_str(), O_WRONLY);
            const float number = 7.0F;
            REQUIRE(pwrite(writer, &number, 4, 20) == 4);
            close(writer);
          } else {
            REQUIRE(truncate(path.c_str(), loss == kEmptied ? 0 : 20000) == 0);
          }
        };
        TestThreads threads(1);
        LoadStats stats;
        LoadError error;
        const bool loaded = load(request, &memory, &threads, &stats, &error);
        REQUIRE(loaded != leased);  // without a lease, the load has made a copy
        REQUIRE(error.file.code == (loaded ? FileCode::kOk : FileCode::kChanged));
        REQUIRE(error.error.code == Code::kOk);
        REQUIRE((loaded || in_place || memory.floats == before));
        REQUIRE(loaded == (memory.calls == "lock begin lock commit"));
      }
    }
  }
}

TEST_CASE("examine_content finds what a load finds") {
  const std::vector<Segment> segments = three_segments();
  std::vector<std::byte> whole = three_segments_file();
  const float bad[] = {kNan, -2.0F};
  std::memcpy(whole.data() + 20, &bad[0], 4);
  std::memcpy(whole.data() + 36, &bad[1], 4);
  Folder folder;
  TestThreads threads(1);
  std::vector<Error> errors;
  LoadError error;
  const std::string path = folder.file(text_of(whole, whole.size()));
  REQUIRE(examine_content(path, 20, segments, &threads, &errors, &error));
  REQUIRE(errors.size() == 2);
  CHECK(errors[0].code == Code::kNonfinite);
  CHECK(errors[0].offset == 20);
  CHECK(errors[1].code == Code::kNegativeVariance);
  CHECK(errors[1].offset == 36);
  CHECK(!examine_content(path + "x", 20, segments, &threads, &errors, &error));
  CHECK(error.file.system_error == ENOENT);
  error = {};
  CHECK(
      !examine_content(folder.file(text_of(whole, 100)), 20, segments, &threads, &errors, &error));
  CHECK(error.error.code == Code::kFileTooShort);
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
