// libFuzzer: the steps of a load, without files. Whatever the plan and the bytes, either there is
// an error, or the damage scan and the scatter stay within bounds, and the scatter writes the same
// with and without AVX2.
//
// The input is the number of segments, the fields of each segment (a byte that selects the
// encoding, then the value), and the file. As few plans would fit by chance, many get small extents
// and shapes that match, and files get a header and are extended.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "weights/damage.h"
#include "weights/header.h"
#include "weights/plan.h"
#include "weights/scatter.h"

namespace {

using namespace yolotf;

class Input {
 public:
  Input(const std::byte* bytes, std::size_t size) : bytes_(bytes), size_(size) {}

  std::uint8_t byte() {
    if (size_ == 0) {
      return 0;
    }
    --size_;
    return static_cast<std::uint8_t>(*bytes_++);
  }

  // Mostly small numbers, but any int64 is possible.
  std::int64_t number() {
    const std::uint8_t kind = byte();
    if (kind < 224) {
      return kind % 64;
    }
    if (kind < 240) {
      return byte() | byte() << 8;
    }
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) {
      value = value << 8 | byte();
    }
    return static_cast<std::int64_t>(value);
  }

  const std::byte* rest() const { return bytes_; }
  std::size_t size() const { return size_; }

 private:
  const std::byte* bytes_;
  std::size_t size_;
};

void expect(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

constexpr std::int64_t kHeader = static_cast<std::int64_t>(kWideHeaderBytes);

// Half of the segments are adjacent and have shapes that multiply to their counts.
std::vector<std::int64_t> rows_of(Input* input) {
  std::int64_t end = kHeader;
  const int segments = 1 + input->byte() % 4;
  std::vector<std::int64_t> rows;
  for (int i = 0; i < segments; ++i) {
    const bool sound = input->byte() % 2 == 0;
    std::vector<std::int64_t> row;
    for (std::int64_t column = 0; column < kPlanColumns; ++column) {
      row.push_back(input->number());
    }
    if (sound) {
      row[0] = end;
      row[2] = 1 + (row[2] & 1);
      row[3] = 1 + (row[3] & 63);
      row[4] = 1 + (row[4] & 15);
      row[5] = 1 + (row[5] & 15);
      row[6] = row[6] & 7;
      const bool folds = row[1] % 2 != 0;
      if (folds && row[6] != static_cast<std::int64_t>(Role::kKernel)) {
        row[2] = row[4] = row[5] = 1;
      }
      row[7] = 4;
      row[8] = row[2];
      row[9] = row[5];
      row[10] = row[4];
      row[11] = row[3];
      end += 4 * row[2] * row[3] * row[4] * row[5];
      row[1] = folds ? end : 0;
      end += folds ? 12 * row[2] * row[3] : 0;
    }
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

void check_damage(const std::byte* bytes, std::uint64_t size, const std::vector<Segment>& segments,
                  std::uint64_t part) {
  const std::vector<Array> arrays = sorted_arrays(segments);
  std::vector<ScanResult> results;
  for (const Array& array : arrays) {
    expect(array.end() <= size && array.count > 0);
    for (std::uint64_t begin = array.offset; begin < array.end(); begin += 4 * part) {
      results.emplace_back();
      scan_for_damage(bytes, begin, std::min(array.end(), begin + 4 * part), &results.back());
    }
  }
  for (const Error& error : find_damage(bytes, size, arrays, results)) {
    expect(error.code >= Code::kNonfinite && error.offset < error.end && error.end <= size);
    expect(error.segment >= 0 && error.segment < static_cast<std::int64_t>(segments.size()));
    if (error.code == Code::kRepeated) {
      expect(error.end - error.offset == error.found - error.expected);
      expect(error.found <= error.offset);
      expect(std::memcmp(bytes + error.offset, bytes + error.expected, error.end - error.offset) ==
             0);
    }
  }
}

std::vector<std::byte> scatter_all(const std::byte* bytes, const Segment& segment, Dtype dtype,
                                   bool portable) {
  force_portable(portable);
  std::vector<std::byte> memory(element_bytes(dtype) * segment.count());
  Target target;
  target.dtype = dtype;
  target.data = memory.data();
  for (const Task& task : split_into_tasks({segment})) {
    const ByteRange source = source_range(segment, task);
    expect(source.begin >= segment.offset && source.end <= end_offset(segment));
    scatter(bytes, segment, target, task);
  }
  return memory;
}

bool is_nan(const std::byte* number, Dtype dtype) {
  if (dtype == Dtype::kFloat32) {
    return (load<std::uint32_t>(number) & 0x7fffffffU) > 0x7f800000U;
  }
  const auto bits = load<std::uint16_t>(number) & 0x7fff;
  return bits > (dtype == Dtype::kFloat16 ? 0x7c00 : 0x7f80);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t data_size) {
  Input input(reinterpret_cast<const std::byte*>(data), data_size);
  const std::vector<std::int64_t> rows = rows_of(&input);
  const std::vector<Segment> segments =
      segments_from_rows(rows.data(), static_cast<std::int64_t>(rows.size()) / kPlanColumns);
  const std::uint64_t part = 1 + input.byte();
  std::vector<std::byte> file;
  if (input.byte() % 4 != 0) {
    const std::int32_t header[] = {0, 2, 5, 0, 0};
    file.resize(sizeof header);
    std::memcpy(file.data(), header, sizeof header);
  }
  const std::size_t length = input.byte() * std::size_t{1024};
  std::uint32_t state = input.byte();
  file.insert(file.end(), input.rest(), input.rest() + input.size());
  while (file.size() < length) {
    state = state * 1664525U + 1013904223U;
    file.push_back(static_cast<std::byte>(state >> 24));
  }
  Header header;
  Error error;
  if (!parse_header(file.data(), file.size(), file.size(), -1, &header, &error) ||
      !check_segments(segments, header.size_bytes, -1, file.size(), &error)) {
    expect(error.code != Code::kOk && !describe(error).empty());
    return 0;
  }
  check_damage(file.data(), file.size(), segments, part);
  for (const Segment& segment : segments) {
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBfloat16}) {
      const std::vector<std::byte> fast = scatter_all(file.data(), segment, dtype, false);
      const std::vector<std::byte> portable = scatter_all(file.data(), segment, dtype, true);
      for (std::size_t i = 0; i < fast.size(); i += element_bytes(dtype)) {
        // The product of two NaNs may have the payload of either.
        expect(std::memcmp(&fast[i], &portable[i], element_bytes(dtype)) == 0 ||
               (is_nan(&fast[i], dtype) && is_nan(&portable[i], dtype)));
      }
    }
  }
  return 0;
}
