// Tests of the core, without a framework: each test is a function, CHECK ends it where it fails.
// They are meant to run under the address and undefined behaviour sanitizers (YOLOTF_SANITIZE):
// what is read is a heap copy of exactly its size, so that reading past it is caught.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "mapped_file.h"
#include "weights.h"

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      throw std::runtime_error(std::string(__FILE__ ":") + std::to_string(__LINE__) + \
                               ": not true: " #condition);                            \
    }                                                                                 \
  } while (false)

namespace yolotf {
namespace {

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Bytes on the heap, not one more than asked for, `shift` bytes after an aligned address.
class Bytes {
 public:
  explicit Bytes(std::uint64_t size, std::uint64_t shift = 0)
      : size_(size), shift_(shift), memory_(new std::byte[size + shift]) {}
  Bytes(const void* source, std::uint64_t size, std::uint64_t shift = 0) : Bytes(size, shift) {
    if (size != 0) {
      std::memcpy(data(), source, size);
    }
  }
  std::byte* data() const { return memory_.get() + shift_; }
  std::uint64_t size() const { return size_; }

 private:
  std::uint64_t size_;
  std::uint64_t shift_;
  std::unique_ptr<std::byte[]> memory_;
};

template <typename T>
void append(std::vector<std::byte>* bytes, T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes->insert(bytes->end(), begin, begin + sizeof value);
}

std::vector<std::byte> header_of(std::int32_t major, std::int32_t minor, std::uint64_t seen,
                                 bool wide) {
  std::vector<std::byte> bytes;
  append(&bytes, major);
  append(&bytes, minor);
  append(&bytes, std::int32_t{5});
  if (wide) {
    append(&bytes, seen);
  } else {
    append(&bytes, static_cast<std::uint32_t>(seen));
  }
  return bytes;
}

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

Segment segment_of(std::uint64_t offset, std::uint64_t blocks, std::uint64_t filters,
                   std::uint64_t channels, std::uint64_t spatial, Role role = Role::kKernel) {
  Segment segment;
  segment.offset = offset;
  segment.blocks = blocks;
  segment.filters = filters;
  segment.channels = channels;
  segment.spatial = spatial;
  segment.role = role;
  segment.rank = 4;
  segment.shape[0] = blocks;
  segment.shape[1] = spatial;
  segment.shape[2] = channels;
  segment.shape[3] = filters;
  return segment;
}

Target target_of(const Segment& segment, Dtype dtype, void* data) {
  Target target;
  target.dtype = dtype;
  target.initialized = true;
  target.rank = segment.rank;
  std::copy(segment.shape, segment.shape + kMaxRank, target.shape);
  target.data = data;
  return target;
}

bool is(const Error& error, Code code, std::int64_t segment, std::uint64_t expected,
        std::uint64_t found) {
  return error.code == code && error.segment == segment && error.expected == expected &&
         error.found == found;
}

// The header.

Header parsed(const std::vector<std::byte>& bytes, std::uint64_t file_bytes,
              std::int64_t floats = -1) {
  Header header;
  Error error;
  const Bytes copy(bytes.data(), bytes.size());
  CHECK(parse_header(copy.data(), copy.size(), file_bytes, floats, &header, &error));
  CHECK(error.code == Code::kOk);
  return header;
}

void a_version_since_0_2_has_a_header_of_20_bytes() {
  const Header header = parsed(header_of(0, 2, 0x123456789abULL, true), 1000);
  CHECK(header.major == 0 && header.minor == 2 && header.revision == 5);
  CHECK(header.seen == 0x123456789abULL);
  CHECK(header.size_bytes == 20 && header.version_size_bytes == 20 && !header.transposed);
}

void a_version_before_0_2_has_a_header_of_16_bytes() {
  const Header header = parsed(header_of(0, 1, 0xfedcba98U, false), 1000);
  CHECK(header.minor == 1 && header.seen == 0xfedcba98U);
  CHECK(header.size_bytes == 16 && header.version_size_bytes == 16 && !header.transposed);
}

void versions_count_as_darknet_counts_them() {
  struct Case {
    std::int32_t major, minor;
    std::uint64_t size_bytes;
    bool transposed;
  };
  for (const Case& one :
       std::initializer_list<Case>{{0, 0, 16, false},
                                   {1, 0, 20, false},
                                   {0, 999, 20, false},
                                   {999, 0, 20, false},
                                   {1000, 0, 16, false},
                                   {0, 1000, 16, false},
                                   {1001, 0, 16, true},
                                   {0, 1001, 16, true},
                                   {-1, 12, 20, false},
                                   {-1, 11, 16, false},
                                   {std::numeric_limits<std::int32_t>::min(), 0, 16, false},
                                   {0, std::numeric_limits<std::int32_t>::min(), 16, false},
                                   // Times 10 and in 32 bits this one would be positive.
                                   {-2000000000, 2, 16, false},
                                   {std::numeric_limits<std::int32_t>::max(),
                                    std::numeric_limits<std::int32_t>::max(), 16, true}}) {
    const Header header = parsed(header_of(one.major, one.minor, 7, true), 20);
    CHECK(header.major == one.major && header.minor == one.minor);
    CHECK(header.version_size_bytes == one.size_bytes && header.transposed == one.transposed);
  }
}

void the_size_of_the_file_overrules_the_version() {
  const Header narrow = parsed(header_of(0, 2, 9, true), 16 + 4 * 10, 10);
  CHECK(narrow.size_bytes == 16 && narrow.version_size_bytes == 20 && narrow.seen == 9);
  const Header wide = parsed(header_of(0, 1, 0x100000009ULL, true), 20 + 4 * 10, 10);
  CHECK(wide.size_bytes == 20 && wide.version_size_bytes == 16 && wide.seen == 0x100000009ULL);
  // Where neither is exact, and where the floats' bytes overflow, the version decides.
  CHECK(parsed(header_of(0, 2, 9, true), 18 + 4 * 10, 10).size_bytes == 20);
  CHECK(parsed(header_of(0, 1, 9, true), 24 + 4 * 10, 10).size_bytes == 16);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  CHECK(parsed(header_of(0, 2, 9, true), 1000, kMost).size_bytes == 20);
  CHECK(parsed(header_of(0, 2, 9, true), kHuge, kMost).size_bytes == 20);
  CHECK(parsed(header_of(0, 2, 9, true), 20, std::int64_t{1} << 62).size_bytes == 20);
  CHECK(parsed(header_of(0, 1, 9, true), 20, 0).size_bytes == 20);
}

void every_prefix_of_a_header_is_refused_with_both_numbers() {
  for (const bool wide : {true, false}) {
    const std::vector<std::byte> whole = header_of(0, wide ? 2 : 1, 42, wide);
    for (std::uint64_t size = 0; size <= whole.size(); ++size) {
      for (std::uint64_t shift = 0; shift < 4; ++shift) {
        const Bytes copy(whole.data(), size, shift);
        Header header;
        Error error;
        const bool sound = parse_header(copy.data(), size, size, -1, &header, &error);
        CHECK(sound == (size == whole.size()));
        const std::uint64_t needed = wide && size >= 16 ? 20 : 16;
        CHECK(sound || is(error, Code::kHeaderTooShort, -1, needed, size));
        CHECK(!sound || header.seen == 42);
      }
    }
  }
}

void text_is_read_as_a_header_without_overflow() {
  const char* text = "<!DOCTYPE html>\n<html>";
  const Bytes copy(text, 20);
  Header header;
  Error error;
  CHECK(parse_header(copy.data(), 20, 20, -1, &header, &error));
  CHECK(header.major == 0x4f44213c && header.transposed && header.size_bytes == 16);
}

void bytes_behind_the_end_of_the_file_are_not_read() {
  // 20 bytes are at hand, but the file is said to have 18.
  const std::vector<std::byte> whole = header_of(0, 2, 42, true);
  Header header;
  Error error;
  CHECK(!parse_header(whole.data(), 20, 18, -1, &header, &error));
  CHECK(is(error, Code::kHeaderTooShort, -1, 20, 18));
}

// The plan.

using Row = std::vector<std::int64_t>;

// Checks one row, and what is said of it against arithmetic that cannot overflow.
Error check_row(const Row& row, std::uint64_t header_bytes, std::uint64_t file_bytes) {
  const Bytes copy(row.data(), row.size() * sizeof(std::int64_t));
  const std::vector<Segment> segments =
      segments_from_rows(reinterpret_cast<const std::int64_t*>(copy.data()), 1);
  CHECK(segments.size() == 1);
  Error error;
  const bool sound = check_segments(segments, header_bytes, -1, file_bytes, &error);
  CHECK(sound == (error.code == Code::kOk));
  if (sound) {
    __extension__ using Wide = unsigned __int128;
    const Segment& segment = segments[0];
    Wide count = segment.blocks;
    for (const std::uint64_t extent : {segment.filters, segment.channels, segment.spatial}) {
      count *= extent;
      CHECK(count > 0 && count <= kHuge);
    }
    Wide in_variable = 1;
    CHECK(segment.rank >= 0 && segment.rank <= kMaxRank);
    for (int axis = 0; axis < segment.rank; ++axis) {
      in_variable *= segment.shape[axis];
      CHECK(in_variable <= kHuge);
    }
    CHECK(in_variable == count && segment.count() == count);
    CHECK(segment.offset >= header_bytes);
    CHECK(segment.offset + 4 * count <= file_bytes);
    if (segment.norm_offset != 0) {
      // Gamma, mean and variance: of every filter, or of every number of a bias.
      const Wide numbers =
          segment.role == Role::kKernel ? Wide{segment.blocks} * segment.filters : count;
      CHECK(segment.norm_offset >= header_bytes);
      CHECK(segment.norm_offset + 12 * numbers <= file_bytes);
    }
  }
  return error;
}

void a_row_of_the_plan_is_a_segment() {
  const Row rows = {20,  0, 1, 2, 3, 4, 5, 4, 2, 2, 3, 2, 1,  //
                    116, 0, 1, 1, 7, 1, 1, 1, 7, 1, 1, 1, 1};
  const std::vector<Segment> segments = segments_from_rows(rows.data(), 2);
  CHECK(segments.size() == 2);
  CHECK(segments[0].offset == 20 && segments[0].filters == 2 && segments[0].channels == 3);
  CHECK(segments[0].spatial == 4 && segments[0].role == Role::kKernel && segments[0].rank == 4);
  CHECK(segments[0].shape[2] == 3 && segments[0].shape[3] == 2 && segments[0].count() == 24);
  CHECK(segments[1].offset == 116 && segments[1].role == Role::kBeta && segments[1].rank == 1);
  Error error;
  CHECK(check_segments(segments, 20, 144, 144, &error));
  CHECK(check_segments(segments, 20, -1, 1000, &error) && error.code == Code::kOk);
}

void a_file_that_ends_inside_a_segment_is_too_short() {
  const std::vector<Segment> segments = {segment_of(20, 1, 1, 7, 1), segment_of(48, 1, 2, 3, 4)};
  for (std::uint64_t file_bytes = 0; file_bytes < 144; ++file_bytes) {
    Error error;
    CHECK(!check_segments(segments, 20, 144, file_bytes, &error));
    CHECK(is(error, Code::kFileTooShort, file_bytes < 48 ? 0 : 1, file_bytes < 48 ? 48 : 144,
             file_bytes));
  }
}

void a_file_that_ends_inside_a_batch_normalization_is_too_short() {
  Segment segment = segment_of(20, 1, 2, 3, 4);
  segment.norm_offset = 200;
  for (std::uint64_t file_bytes = 116; file_bytes <= 224; ++file_bytes) {
    Error error;
    CHECK(check_segments({segment}, 20, -1, file_bytes, &error) == (file_bytes == 224));
    CHECK(file_bytes == 224 || is(error, Code::kFileTooShort, 0, 224, file_bytes));
  }
}

void a_segment_ends_where_the_last_of_its_bytes_does() {
  Segment segment = segment_of(100, 3, 2, 5, 4);
  CHECK(end_of(segment) == 100 + 4 * 120);
  segment.norm_offset = 40;
  CHECK(end_of(segment) == 100 + 4 * 120);
  segment.norm_offset = 1000;
  CHECK(end_of(segment) == 1000 + 3 * 4 * 6);
}

void a_batch_normalization_of_blocks_has_the_filters_of_all() {
  Segment segment = segment_of(20, 3, 2, 3, 4);
  segment.norm_offset = 400;
  for (std::uint64_t file_bytes = 400; file_bytes <= 472; ++file_bytes) {
    Error error;
    CHECK(check_segments({segment}, 20, -1, file_bytes, &error) == (file_bytes == 472));
    CHECK(file_bytes == 472 || is(error, Code::kFileTooShort, 0, 472, file_bytes));
  }
  std::vector<float> floats(472 / 4, 1.0F);
  for (std::uint64_t place = 100; place < floats.size(); ++place) {
    floats[place] = -1.0F;
    const Bytes bytes(floats.data(), 4 * floats.size());
    floats[place] = 1.0F;
    Error error;
    CHECK(check_variance(bytes.data(), segment, 0, &error) == (place < 112));
    CHECK(place < 112 || error.offset == 4 * place);
  }
}

void a_file_of_another_size_is_refused_even_where_every_segment_fits() {
  const std::vector<Segment> segments = {segment_of(20, 1, 1, 7, 1)};
  Error error;
  CHECK(!check_segments(segments, 20, 48, 49, &error));
  CHECK(is(error, Code::kWrongSize, -1, 48, 49));
  CHECK(!check_segments(segments, 20, 52, 48, &error));
  CHECK(is(error, Code::kWrongSize, -1, 52, 48));
  CHECK(check_segments({}, 20, 20, 20, &error));
  CHECK(!check_segments({}, 20, 20, 24, &error));
}

void rows_that_describe_no_array_are_refused() {
  constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t k32 = std::int64_t{1} << 32;
  const std::vector<Row> rows = {
      {0, 0, 1, 1, 7, 1, 0, 1, 7, 1, 1, 1, 1},  // inside the header
      {19, 0, 1, 1, 7, 1, 0, 1, 7, 1, 1, 1, 1},
      {20, 0, 0, 1, 7, 1, 0, 1, 0, 1, 1, 1, 1},  // no floats
      {20, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1},
      {20, 0, 1, 1, 7, 1, 0, -1, 7, 1, 1, 1, 1},  // no such rank
      {20, 0, 1, 1, 7, 1, 0, 6, 7, 1, 1, 1, 1},
      {20, 0, 1, 1, 7, 1, 0, kMin, 7, 1, 1, 1, 1},
      {20, 0, 1, 1, 7, 1, 0, k32 + 1, 7, 1, 1, 1, 1},  // 1 in 32 bits
      {20, 0, 1, 1, 7, 1, 0, 1, 8, 1, 1, 1, 1},        // another count
      {20, 0, 1, 2, 7, 1, 0, 1, 7, 1, 1, 1, 1},
      {20, 0, 1, 1, 7, 1, 0, 0, 7, 1, 1, 1, 1},
      {-1, 0, 1, 1, 7, 1, 0, 1, 7, 1, 1, 1, 1},  // the end overflows
      {kMin, 0, 1, 1, kMax, 1, 0, 1, kMax, 1, 1, 1, 1},
      {20, 0, 1, 1, -7, 1, 0, 1, -7, 1, 1, 1, 1},
      {20, 0, 1, k32, k32, 1, 0, 2, k32, k32, 1, 1, 1},    // the count overflows to 0
      {20, 0, 1, k32, k32 + 1, 1, 0, 1, k32, 1, 1, 1, 1},  // and to 2^32
      {20, 0, k32, k32, k32, k32, 0, 1, 1, 1, 1, 1, 1},
      {20, 0, 1, 1, std::int64_t{1} << 62, 1, 0, 1, std::int64_t{1} << 62, 1, 1, 1, 1},
      {20, 0, 1, 1, 7, 1, 0, 3, 7, k32, k32, 1, 1},  // the shape overflows
      {kMin, kMin, kMin, kMin, kMin, kMin, kMin, kMin, kMin, kMin, kMin, kMin, kMin},
      {kMax, kMax, kMax, kMax, kMax, kMax, kMax, kMax, kMax, kMax, kMax, kMax, kMax},
      // A batch normalization inside the header, past the end of numbers, and of fewer numbers than
      // the bias it is for.
      {20, 19, 1, 2, 7, 1, 5, 2, 2, 7, 1, 1, 1},
      {20, -1, 1, 2, 7, 1, 5, 2, 2, 7, 1, 1, 1},
      {20, -24, 1, 2, 7, 1, 5, 2, 2, 7, 1, 1, 1},
      {20, 20, 7, 2, 1, 1, 1, 2, 2, 7, 1, 1, 1},
      {20, 20, 1, 1, 7, 1, 1, 1, 7, 1, 1, 1, 1},
      {20, 20, 1, 2, 7, 1, 7, 2, 2, 7, 1, 1, 1},
  };
  for (const Row& row : rows) {
    CHECK(row.size() == kPlanColumns);
    for (const std::uint64_t file_bytes : {std::uint64_t{76}, kHuge}) {
      const Error error = check_row(row, 20, file_bytes);
      CHECK(error.code == Code::kBadSegment && error.segment == 0);
    }
  }
}

void no_plan_whatever_reaches_outside_the_file() {
  std::mt19937_64 random(1);
  std::uint64_t sound = 0;
  for (int i = 0; i < 200000; ++i) {
    const auto number = [&]() -> std::int64_t {
      const int shift = static_cast<int>(random() % 64);
      switch (random() % 8) {
        case 0:
          return static_cast<std::int64_t>(random());
        case 1:
          return static_cast<std::int64_t>(std::uint64_t{1} << shift);
        case 2:
          return static_cast<std::int64_t>((std::uint64_t{1} << shift) - 1);
        default:
          return static_cast<std::int64_t>(1 + random() % 4);
      }
    };
    Row row(kPlanColumns);
    std::generate(row.begin(), row.end(), number);
    row[0] = random() % 2 == 0 ? 20 : number();
    row[1] = random() % 2 == 0 ? 0 : random() % 2 == 0 ? 20 : number();
    if (random() % 2 == 0) {  // a shape that would fit if nothing overflowed
      row[7] = 4;
      row[8] = row[2];
      row[9] = row[5];
      row[10] = row[4];
      row[11] = row[3];
    }
    const std::uint64_t file_bytes = random() % 2 == 0 ? 20 + random() % 400 : kHuge;
    sound += check_row(row, 20, file_bytes).code == Code::kOk ? 1 : 0;
  }
  CHECK(sound > 1000);
}

// The variables.

void a_variable_of_its_segment_is_accepted() {
  const Segment segment = segment_of(20, 1, 2, 3, 4);
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBfloat16}) {
    Error error;
    CHECK(check_target(segment, 0, target_of(segment, dtype, nullptr), true, &error));
    CHECK(error.code == Code::kOk);
  }
}

void a_variable_of_another_kind_is_refused() {
  const Segment segment = segment_of(20, 1, 2, 3, 4);
  const auto refused = [&](const std::function<void(Target*)>& change, bool cast) {
    Target target = target_of(segment, Dtype::kFloat32, nullptr);
    change(&target);
    Error error;
    CHECK(!check_target(segment, 3, target, cast, &error));
    CHECK(error.segment == 3);
    return error;
  };
  const auto number = [](Dtype dtype) { return static_cast<std::uint64_t>(dtype); };
  CHECK(refused([](Target* target) { target->initialized = false; }, true).code ==
        Code::kUninitialized);
  for (const Dtype dtype : {Dtype::kFloat16, Dtype::kBfloat16, Dtype::kOther}) {
    CHECK(is(refused([&](Target* target) { target->dtype = dtype; }, false), Code::kWrongDtype, 3,
             number(Dtype::kFloat32), number(dtype)));
  }
  CHECK(is(refused([](Target* target) { target->dtype = Dtype::kOther; }, true), Code::kWrongDtype,
           3, number(Dtype::kFloat32), number(Dtype::kOther)));
  for (const int rank : {0, 1, 3, 5, 8, 254}) {
    CHECK(is(refused([&](Target* target) { target->rank = rank; }, false), Code::kWrongRank, 3, 4,
             static_cast<std::uint64_t>(rank)));
  }
  for (int axis = 0; axis < 4; ++axis) {
    const Error error = refused([&](Target* target) { target->shape[axis] = 99; }, false);
    CHECK(is(error, Code::kWrongShape, 3, segment.shape[axis], 99) && error.axis == axis);
  }
}

void a_moving_variance_is_finite_and_not_negative() {
  struct Case {
    float value;
    bool sound;
  };
  for (const Case& one :
       std::initializer_list<Case>{{0.0F, true},
                                   {-0.0F, true},
                                   {std::numeric_limits<float>::denorm_min(), true},
                                   {std::numeric_limits<float>::max(), true},
                                   {-std::numeric_limits<float>::denorm_min(), false},
                                   {-1.0F, false},
                                   {kInfinity, false},
                                   {-kInfinity, false},
                                   {kNan, false},
                                   {-kNan, false}}) {
    for (std::uint64_t place = 0; place < 9; ++place) {
      std::vector<float> floats(9, 1.0F);
      floats[place] = one.value;
      // Behind and before the segment anything may be.
      floats.insert(floats.begin(), 5, -1.0F);
      const Bytes bytes(floats.data(), 4 * floats.size());
      const Segment segment = segment_of(20, 1, 1, 9, 1, Role::kMovingVariance);
      Error error;
      CHECK(check_variance(bytes.data(), segment, 2, &error) == one.sound);
      CHECK(one.sound || (error.code == Code::kBadVariance && error.segment == 2 &&
                          error.offset == 20 + 4 * place));
    }
  }
}

void the_variance_of_a_folded_batch_normalization_is_checked() {
  for (const float value : {1.0F, -1.0F, kNan}) {
    for (std::uint64_t place = 0; place < 14; ++place) {
      // From byte 20: a kernel of 2 filters and 4 numbers each; then gamma, mean, variance.
      std::vector<float> floats(5 + 14, 1.0F);
      floats[5 + place] = value;
      const Bytes bytes(floats.data(), 4 * floats.size());
      Segment segment = segment_of(20, 1, 2, 4, 1);
      segment.norm_offset = 52;
      Error error;
      const bool sound = value == 1.0F || place < 12;
      CHECK(check_variance(bytes.data(), segment, 2, &error) == sound);
      CHECK(sound || (error.code == Code::kBadVariance && error.offset == 20 + 4 * place));
    }
  }
}

void every_error_is_described_in_one_line() {
  Error error;
  error.segment = 7;
  error.axis = 2;
  error.offset = 1234;
  error.expected = 2;
  error.found = 1;
  const auto said = [&](Code code) {
    error.code = code;
    return describe(error);
  };
  CHECK(said(Code::kOk) == "no error");
  CHECK(said(Code::kHeaderTooShort) == "header needs 2 bytes, file has 1");
  CHECK(said(Code::kFileTooShort) == "too short: segment 7 ends at byte 2, file at 1");
  CHECK(said(Code::kWrongSize) == "plan needs 2 bytes, file has 1");
  CHECK(said(Code::kBadSegment) == "segment 7 does not describe an array");
  CHECK(said(Code::kWrongRank) == "variable of segment 7 has 1 axes, plan wants 2");
  CHECK(said(Code::kWrongShape) == "variable of segment 7 is 1 long in axis 2, plan wants 2");
  CHECK(said(Code::kWrongDtype) == "variable of segment 7 is float16, plan wants bfloat16");
  CHECK(said(Code::kUninitialized) == "variable of segment 7 is not initialized");
  CHECK(said(Code::kBadVariance) ==
        "moving_variance of segment 7 is negative or not finite at byte 1234");
  CHECK(said(Code::kShared) == "segment 7 and segment 2 have the same variable");
  error.expected = static_cast<std::uint64_t>(Dtype::kFloat32);
  error.found = static_cast<std::uint64_t>(Dtype::kOther);
  CHECK(said(Code::kWrongDtype) == "variable of segment 7 is another dtype, plan wants float32");
}

// Rounding to 16 bits.

// A 16-bit format by its definition: the value of every code, and a search for the nearest one.
class Format {
 public:
  Format(Dtype of, int exponent_bits, int mantissa_bits) : dtype(of) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    infinity = static_cast<std::uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
    // What would follow the largest finite number stands for infinity: rounding does not end there.
    for (int code = 0; code <= infinity; ++code) {
      const int exponent = code >> mantissa_bits;
      const int mantissa = code & ((1 << mantissa_bits) - 1);
      values.push_back(exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                     : std::ldexp(mantissa + (1 << mantissa_bits),
                                                  exponent - bias - mantissa_bits));
    }
  }

  // To nearest, ties to the even code. Not for NaN.
  std::uint16_t round(float value) const {
    const double magnitude = std::fabs(static_cast<double>(value));
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    const auto above = std::lower_bound(values.begin(), values.end(), magnitude) - values.begin();
    std::int64_t code = above;
    if (code == static_cast<std::int64_t>(values.size())) {
      code = infinity;
    } else if (code > 0) {
      const double up = values[static_cast<std::size_t>(code)] - magnitude;
      const double down = magnitude - values[static_cast<std::size_t>(code) - 1];
      if (down < up || (down == up && code % 2 == 1)) {
        --code;
      }
    }
    return static_cast<std::uint16_t>(sign | code);
  }

  bool is_nan(std::uint16_t code) const { return (code & 0x7fff) > infinity; }

  Dtype dtype;
  std::uint16_t infinity;
  std::vector<double> values;
};

std::vector<Format> formats() {
  return {Format(Dtype::kFloat16, 5, 10), Format(Dtype::kBfloat16, 8, 7)};
}

// Runs every task of one segment.
void scatter_all(const std::byte* bytes, const Segment& segment, const Target& target) {
  for (const Task& task : split({segment})) {
    CHECK(task.segment == 0);
    scatter(bytes, segment, target, task);
  }
}

// The rounded numbers, by a copy or, 16 filters at a time, by a transpose.
std::vector<std::uint16_t> rounded(std::vector<float> floats, Dtype dtype, bool transpose) {
  const std::size_t size = floats.size();
  floats.resize((size + 127) / 128 * 128, 0.0F);
  const Bytes bytes(floats.data(), 4 * floats.size());
  const std::uint64_t columns = floats.size() / 16;
  const Segment segment =
      transpose ? segment_of(0, 1, 16, columns, 1) : segment_of(0, 1, 1, floats.size(), 1);
  std::vector<std::uint16_t> out(floats.size());
  scatter_all(bytes.data(), segment, target_of(segment, dtype, out.data()));
  if (transpose) {
    std::vector<std::uint16_t> in_order(out.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      in_order[i] = out[i % columns * 16 + i / columns];
    }
    out = in_order;
  }
  out.resize(size);
  return out;
}

void check_rounding(const std::vector<float>& floats) {
  for (const Format& format : formats()) {
    for (const bool portable : {true, false}) {
      force_portable(portable);
      for (const bool transpose : {false, true}) {
        const std::vector<std::uint16_t> found = rounded(floats, format.dtype, transpose);
        for (std::size_t i = 0; i < floats.size(); ++i) {
          if (std::isnan(floats[i])) {
            CHECK(format.is_nan(found[i]));
            CHECK((found[i] >> 15) == (bits_of(floats[i]) >> 31));
          } else {
            CHECK(found[i] == format.round(floats[i]));
          }
        }
      }
    }
  }
}

void the_reference_of_rounding_is_right() {
  const std::vector<Format> both = formats();
  CHECK(both[0].values[0x3c00] == 1.0 && both[0].values[1] == std::ldexp(1, -24));
  CHECK(both[0].values[0x7bff] == 65504.0 && both[0].infinity == 0x7c00);
  CHECK(both[1].values[0x3f80] == 1.0 && both[1].infinity == 0x7f80);
  CHECK(both[1].values[0x7f7f] == static_cast<double>(float_of(0x7f7f0000U)));
  CHECK(both[0].round(65519.0F) == 0x7bff && both[0].round(65520.0F) == 0x7c00);
  CHECK(both[0].round(-1.0F) == 0xbc00 && both[0].round(-0.0F) == 0x8000);
}

void all_exponents_round_to_nearest_even() {
  std::vector<std::uint32_t> mantissas = {0, 0x7fffff};
  for (int bit = 0; bit < 23; ++bit) {
    const std::uint32_t one = 1U << bit;
    // Alone, with its neighbours, and as a tie after an odd and an even number.
    for (const std::uint32_t mantissa :
         {one, one - 1, one + 1, one | one << 1, (one | one << 1) - 1, (one | one << 1) + 1,
          0x7fffffU - one, 0x7fffffU & ~(one - 1)}) {
      mantissas.push_back(mantissa & 0x7fffffU);
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 16; ++i) {
    mantissas.push_back(static_cast<std::uint32_t>(random()) & 0x7fffffU);
  }
  std::vector<float> floats;
  for (std::uint32_t exponent = 0; exponent < 256; ++exponent) {
    for (const std::uint32_t mantissa : mantissas) {
      for (const std::uint32_t sign : {0U, 1U}) {
        floats.push_back(float_of(sign << 31 | exponent << 23 | mantissa));
      }
    }
  }
  check_rounding(floats);
}

void every_tie_rounds_to_even() {
  for (const Format& format : formats()) {
    std::vector<float> floats;
    for (std::size_t code = 0; code + 1 < format.values.size(); ++code) {
      const auto tie = static_cast<float>((format.values[code] + format.values[code + 1]) / 2);
      floats.insert(floats.end(), {tie, std::nextafter(tie, 0.0F), std::nextafter(tie, kInfinity),
                                   static_cast<float>(format.values[code])});
    }
    check_rounding(floats);
  }
}

// Scatter.

// By definition: where the float at (block, filter, channel, position) goes.
template <typename Visit>
void each_float(const Segment& segment, const Visit& visit) {
  std::uint64_t from = 0;
  for (std::uint64_t block = 0; block < segment.blocks; ++block) {
    for (std::uint64_t filter = 0; filter < segment.filters; ++filter) {
      for (std::uint64_t channel = 0; channel < segment.channels; ++channel) {
        for (std::uint64_t position = 0; position < segment.spatial; ++position) {
          const std::uint64_t to =
              ((block * segment.spatial + position) * segment.channels + channel) *
                  segment.filters +
              filter;
          visit(from++, to);
        }
      }
    }
  }
}

void check_scatter(const Segment& segment, std::uint64_t shift) {
  const std::uint64_t count = segment.count();
  std::vector<float> floats(segment.offset / 4 + count);
  for (std::uint64_t i = 0; i < count; ++i) {
    floats[segment.offset / 4 + i] = static_cast<float>(i % 251);  // exact in 16 bits too
  }
  const Bytes small(floats.data(), 4 * floats.size());
  for (std::uint64_t i = 0; i < count; ++i) {
    // NaNs with payloads among them: what is not rounded is moved bit by bit.
    floats[segment.offset / 4 + i] = float_of(0x7f800001U + static_cast<std::uint32_t>(i * 977));
  }
  const Bytes wild(floats.data(), 4 * floats.size());
  const std::vector<Format> both = formats();
  for (const bool portable : {true, false}) {
    force_portable(portable);
    {
      const Bytes out(4 * count, 4 * shift);
      scatter_all(wild.data(), segment, target_of(segment, Dtype::kFloat32, out.data()));
      each_float(segment, [&](std::uint64_t from, std::uint64_t to) {
        CHECK(std::memcmp(out.data() + 4 * to, wild.data() + segment.offset + 4 * from, 4) == 0);
      });
    }
    for (const Format& format : both) {
      const Bytes out(2 * count, 2 * shift);
      scatter_all(small.data(), segment, target_of(segment, format.dtype, out.data()));
      each_float(segment, [&](std::uint64_t from, std::uint64_t to) {
        std::uint16_t code;
        std::memcpy(&code, out.data() + 2 * to, sizeof code);
        CHECK(format.values[code] == static_cast<double>(from % 251));
      });
    }
  }
}

void scatter_moves_every_float_of_odd_shapes_to_its_place() {
  for (const std::uint64_t filters : {1U, 2U, 7U, 8U, 15U, 16U, 17U, 32U, 33U, 48U}) {
    for (const std::uint64_t channels : {1U, 2U, 3U, 7U, 8U, 9U}) {
      for (const std::uint64_t spatial : {1U, 2U, 9U, 25U}) {
        for (const std::uint64_t blocks : {1U, 3U}) {
          const std::uint64_t shift = (filters + channels + spatial) % 3;
          check_scatter(segment_of(20, blocks, filters, channels, spatial), shift);
        }
      }
    }
  }
}

void scatter_moves_segments_of_several_tasks() {
  const std::vector<Segment> segments = {
      segment_of(16, 1, 1, 3 * 65536 + 5, 1),  // copied
      segment_of(16, 3, 1, 65536, 1),          // copied across blocks
      segment_of(16, 1, 100, 256, 9),          // transposed, the last panel not full
      segment_of(16, 1, 96, 256, 9),           // transposed in whole lines
      segment_of(16, 1, 33, 5000, 1),          // dense
      segment_of(16, 2, 20, 700, 9),           // one kernel a position
      segment_of(16, 1, 1, 512, 9),            // one filter
      segment_of(16, 1, 512, 1, 9),            // depthwise
  };
  for (const Segment& segment : segments) {
    check_scatter(segment, 0);
  }
}

void scatter_takes_offsets_that_are_not_aligned() {
  for (std::uint64_t odd = 1; odd < 4; ++odd) {
    for (const Segment& plain : {segment_of(20, 1, 33, 5, 9), segment_of(20, 1, 1, 99, 1)}) {
      Segment segment = plain;
      segment.offset += odd;
      std::vector<float> floats(segment.count());
      for (std::size_t i = 0; i < floats.size(); ++i) {
        floats[i] = static_cast<float>(i);
      }
      const Bytes bytes(segment.offset + 4 * floats.size());
      std::memcpy(bytes.data() + segment.offset, floats.data(), 4 * floats.size());
      for (const bool portable : {true, false}) {
        force_portable(portable);
        std::vector<float> out(floats.size());
        scatter_all(bytes.data(), segment, target_of(segment, Dtype::kFloat32, out.data()));
        each_float(segment, [&](std::uint64_t from, std::uint64_t to) {
          CHECK(bits_of(out[to]) == bits_of(floats[from]));
        });
      }
    }
  }
}

// gamma / sqrt(variance + 1e-5), in long double; what is rounded once is at most an ulp away.
void folding_multiplies_every_filter_by_its_scale() {
  for (const std::uint64_t filters : {1U, 3U, 16U, 17U, 64U}) {
    for (const std::uint64_t columns : {1U, 5U, 8U, 20U}) {
      std::mt19937 random(1);
      std::uniform_real_distribution<float> uniform(0.1F, 2.0F);
      const std::uint64_t count = filters * columns;
      std::vector<float> floats(5 + 4 * filters + count);
      for (float& value : floats) {
        value = uniform(random);
      }
      const float* beta = floats.data() + 5;
      const float* gamma = beta + filters;
      const float* mean = gamma + filters;
      const float* variance = mean + filters;
      const float* kernel = variance + filters;
      Segment segments[] = {
          segment_of(20 + 16 * filters, 1, filters, columns, 1),
          segment_of(20, 1, filters, 1, 1, Role::kBeta),
          segment_of(20 + 4 * filters, 1, filters, 1, 1, Role::kScale),
      };
      const Bytes bytes(floats.data(), 4 * floats.size());
      std::vector<float> before;
      for (const bool portable : {true, false}) {
        force_portable(portable);
        std::vector<float> found;
        for (Segment& segment : segments) {
          segment.norm_offset = 20 + 4 * filters;
          std::vector<float> out(segment.count());
          scatter_all(bytes.data(), segment, target_of(segment, Dtype::kFloat32, out.data()));
          found.insert(found.end(), out.begin(), out.end());
        }
        for (std::uint64_t filter = 0; filter < filters; ++filter) {
          const long double scale =
              gamma[filter] / std::sqrt(static_cast<long double>(variance[filter]) + 1e-5L);
          const auto close = [](float a, long double b, long double scale_of_b) {
            return std::fabs(a - b) <= 2e-7L * scale_of_b;
          };
          for (std::uint64_t column = 0; column < columns; ++column) {
            const long double value = kernel[filter * columns + column] * scale;
            CHECK(close(found[column * filters + filter], value, value));
          }
          CHECK(close(found[count + filter], beta[filter] - mean[filter] * scale,
                      beta[filter] + mean[filter] * scale));
          CHECK(close(found[count + filters + filter], scale, scale));
        }
        CHECK(before.empty() || before == found);
        before = found;
      }
    }
  }
}

#if defined(__SSE__)
// As TensorFlow sets its threads.
class SubnormalsAreZero {
 public:
  SubnormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~SubnormalsAreZero() { _mm_setcsr(before_); }

 private:
  unsigned before_;
};

void subnormal_numbers_arrive_where_the_processor_takes_them_for_zero() {
  const Segment segments[] = {segment_of(0, 1, 1, 99, 1), segment_of(0, 1, 40, 11, 9)};
  for (const Segment& segment : segments) {
    std::vector<std::uint32_t> bits(segment.count());
    for (std::size_t i = 0; i < bits.size(); ++i) {
      bits[i] = static_cast<std::uint32_t>(i) + 1;
    }
    const Bytes bytes(bits.data(), 4 * bits.size());
    for (const bool portable : {true, false}) {
      force_portable(portable);
      std::vector<std::uint32_t> out(bits.size());
      {
        const SubnormalsAreZero mode;
        scatter_all(bytes.data(), segment, target_of(segment, Dtype::kFloat32, out.data()));
      }
      each_float(segment,
                 [&](std::uint64_t from, std::uint64_t to) { CHECK(out[to] == bits[from]); });
    }
  }
  const std::uint32_t negative = 0x80000001U;
  const Bytes bytes(&negative, 4);
  Error error;
  const SubnormalsAreZero mode;
  CHECK(!check_variance(bytes.data(), segment_of(0, 1, 1, 1, 1, Role::kMovingVariance), 0, &error));
}
#endif

void forcing_portable_code_is_heard() {
  force_portable(true);
  CHECK(std::string(scatter_isa()) == "portable");
  force_portable(false);
  const std::string isa = scatter_isa();
  CHECK(isa == "avx2" || isa == "portable");
}

void tasks_cover_every_float_exactly_once() {
  std::vector<Segment> segments;
  std::mt19937 random(1);
  const auto extent = [&](std::uint64_t most) { return 1 + random() % most; };
  for (int i = 0; i < 60; ++i) {
    segments.push_back(segment_of(20, extent(3), extent(70), extent(40), extent(25)));
  }
  segments.push_back(segment_of(20, 1, 1, 200001, 1));
  segments.push_back(segment_of(20, 1, 17, 70000, 1));
  segments.push_back(segment_of(20, 1, 300, 100, 9));
  std::vector<std::vector<int>> written;
  for (const Segment& segment : segments) {
    written.emplace_back(segment.count(), 0);
  }
  for (const Task& task : split(segments)) {
    const Segment& segment = segments[task.segment];
    CHECK(task.begin < task.end);
    // What a task writes is seen in memory that holds nothing else.
    const std::uint64_t count = segment.count();
    const std::vector<float> ones(5 + count, 1.0F);
    std::vector<float> out(count, 0.0F);
    scatter(reinterpret_cast<const std::byte*>(ones.data()), segment,
            target_of(segment, Dtype::kFloat32, out.data()), task);
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      const int wrote = out[i] == 1.0F ? 1 : 0;
      written[task.segment][i] += wrote;
      sum += static_cast<std::uint64_t>(wrote);
    }
    // A MB at most, or 16 rows where those are longer.
    CHECK(4 * sum <= std::max<std::uint64_t>(1 << 20, 64 * segment.channels * segment.spatial));
  }
  for (const std::vector<int>& times : written) {
    CHECK(std::all_of(times.begin(), times.end(), [](int one) { return one == 1; }));
  }
}

void every_prefix_of_a_file_is_refused_and_writes_nothing() {
  const std::vector<Segment> segments = {
      segment_of(20, 1, 1, 3, 1, Role::kBeta),
      segment_of(32, 1, 1, 3, 1, Role::kMovingVariance),
      segment_of(44, 1, 3, 2, 4),
  };
  std::vector<std::byte> whole = header_of(0, 2, 42, true);
  for (int i = 0; i < 30; ++i) {
    append(&whole, static_cast<float>(i));
  }
  // As the op and the Python module do it.
  const auto load = [&](const Bytes& file, std::vector<std::vector<float>>* variables) {
    Header header;
    Error error;
    if (!parse_header(file.data(), file.size(), file.size(), 30, &header, &error) ||
        !check_segments(segments, header.size_bytes, 140, file.size(), &error)) {
      return error.code;
    }
    for (std::size_t i = 0; i < segments.size(); ++i) {
      const Target target = target_of(segments[i], Dtype::kFloat32, (*variables)[i].data());
      if (!check_target(segments[i], static_cast<std::int64_t>(i), target, false, &error) ||
          (segments[i].role == Role::kMovingVariance &&
           !check_variance(file.data(), segments[i], static_cast<std::int64_t>(i), &error))) {
        return error.code;
      }
    }
    for (const Task& task : split(segments)) {
      scatter(file.data(), segments[task.segment],
              target_of(segments[task.segment], Dtype::kFloat32, (*variables)[task.segment].data()),
              task);
    }
    return Code::kOk;
  };
  for (std::uint64_t size = 0; size <= whole.size(); ++size) {
    std::vector<std::vector<float>> variables = {
        std::vector<float>(3, -1.0F), std::vector<float>(3, -1.0F), std::vector<float>(24, -1.0F)};
    const std::vector<std::vector<float>> before = variables;
    const Code code = load(Bytes(whole.data(), size), &variables);
    if (size < 20) {
      CHECK(code == Code::kHeaderTooShort);
    } else if (size < whole.size()) {
      CHECK(code == Code::kFileTooShort);
    } else {
      CHECK(code == Code::kOk);
      CHECK(variables[0] == (std::vector<float>{0.0F, 1.0F, 2.0F}));
      CHECK(variables[2][1] == 14.0F && variables[2][3] == 10.0F);
      continue;
    }
    CHECK(variables == before);
  }
}

// Statistics.

void statistics_are_those_of_a_loop() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.1F, 2.0F);
  const std::vector<float> odd = {kInfinity,
                                  -kInfinity,
                                  kNan,
                                  0.0F,
                                  -0.0F,
                                  std::numeric_limits<float>::max(),
                                  std::numeric_limits<float>::lowest(),
                                  std::numeric_limits<float>::denorm_min()};
  for (const std::uint64_t size : {0U, 1U, 2U, 7U, 8U, 9U, 1023U, 1024U, 1025U, 5000U}) {
    for (const int kind : {0, 1, 2}) {  // plain, with odd numbers among them, only such
      std::vector<float> floats(size);
      for (float& value : floats) {
        const bool plain = kind == 0 || (kind == 1 && random() % 4 != 0);
        value = plain ? normal(random) : odd[random() % odd.size()];
      }
      Stats expected;
      expected.minimum = std::numeric_limits<double>::infinity();
      expected.maximum = -expected.minimum;
      for (const float value : floats) {
        ++expected.count;
        expected.negative += value < 0 ? 1 : 0;
        expected.zero += value == 0 ? 1 : 0;
        if (!std::isfinite(value)) {
          ++expected.nonfinite;
          continue;
        }
        expected.minimum = std::min(expected.minimum, static_cast<double>(value));
        expected.maximum = std::max(expected.maximum, static_cast<double>(value));
        expected.sum += value;
        expected.sum_of_squares += static_cast<double>(value) * value;
      }
      for (const std::uint64_t cut : {std::uint64_t{0}, size / 3, size}) {
        const Bytes bytes(floats.data(), 4 * size, 1);  // no alignment at all
        Stats stats;
        add_stats(bytes.data(), cut, &stats);
        add_stats(bytes.data() + 4 * cut, size - cut, &stats);
        CHECK(stats.count == expected.count && stats.nonfinite == expected.nonfinite);
        CHECK(stats.negative == expected.negative && stats.zero == expected.zero);
        if (stats.count > stats.nonfinite) {
          CHECK(stats.minimum == expected.minimum && stats.maximum == expected.maximum);
        }
        const auto close = [&](double a, double b, double scale) {
          return std::fabs(a - b) <= 1e-12 * scale;
        };
        CHECK(close(stats.sum_of_squares, expected.sum_of_squares, expected.sum_of_squares));
        const double magnitudes =
            std::sqrt(expected.sum_of_squares * static_cast<double>(size)) + 1;
        CHECK(close(stats.sum, expected.sum, magnitudes));
      }
    }
  }
}

void numbers_that_are_not_finite_leave_the_extremes_to_those_that_are() {
  const float floats[] = {kNan, kInfinity, 5.0F, -kInfinity, 7.0F};
  const Bytes bytes(floats, sizeof floats);
  Stats stats;
  add_stats(bytes.data(), 2, &stats);
  CHECK(stats.count == 2 && stats.nonfinite == 2);
  add_stats(bytes.data() + 8, 2, &stats);
  CHECK(stats.minimum == 5.0 && stats.maximum == 5.0);
  add_stats(bytes.data() + 16, 1, &stats);
  CHECK(stats.minimum == 5.0 && stats.maximum == 7.0 && stats.sum == 12.0);
  CHECK(stats.count == 5 && stats.nonfinite == 3 && stats.negative == 1);
}

// Files.

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/core_test.XXXXXX";
    CHECK(mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Folder() {
    for (const std::string& path : files_) {
      unlink(path.c_str());
    }
    rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }

  std::string name(const std::string& name) {
    files_.push_back(path_ + "/" + name);
    return files_.back();
  }

  std::string file(const std::string& content) {
    const std::string path = name("file" + std::to_string(files_.size()));
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(write(descriptor, content.data(), content.size()) ==
          static_cast<ssize_t>(content.size()));
    close(descriptor);
    return path;
  }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

// Whether this system gives us a lease and reads mappings in: asked without MappedFile.
bool mapping_is_safe(const std::string& path) {
#if defined(F_SETLEASE) && defined(MADV_POPULATE_READ)
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  const bool leased = fcntl(descriptor, F_SETLEASE, F_RDLCK) == 0;
  void* page = mmap(nullptr, 1, PROT_READ, MAP_SHARED, descriptor, 0);
  const bool populated = page != MAP_FAILED && madvise(page, 1, MADV_POPULATE_READ) == 0;
  munmap(page, 1);
  close(descriptor);
  return leased && populated;
#else
  (void)path;
  return false;
#endif
}

bool holds(const MappedFile& file, const std::string& content) {
  return file.size() == content.size() && file.bytes() != nullptr &&
         std::memcmp(file.bytes(), content.data(), content.size()) == 0;
}

const std::string& content() {
  static const std::string text = [] {
    std::string long_text;
    for (int i = 0; i < 5000; ++i) {
      long_text += std::to_string(i);
    }
    return long_text;
  }();
  return text;
}

// Ends the process if the test hangs.
class Deadline {
 public:
  Deadline() { alarm(20); }
  ~Deadline() { alarm(0); }
};

// A process that runs `work`; wait() returns what it did.
class Child {
 public:
  explicit Child(const std::function<bool()>& work) : process_(fork()) {
    CHECK(process_ >= 0);
    if (process_ == 0) {
      alarm(20);
      _exit(work() ? 0 : 1);
    }
  }
  ~Child() {
    if (process_ > 0) {
      kill(process_, SIGKILL);
      waitpid(process_, nullptr, 0);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  bool wait() {
    int status = -1;
    while (waitpid(process_, &status, 0) < 0 && errno == EINTR) {
    }
    process_ = -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  bool running() const {
    siginfo_t info = {};
    return waitid(P_PID, static_cast<id_t>(process_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }

 private:
  pid_t process_;
};

void sleep_ms(unsigned milliseconds) { usleep(1000 * milliseconds); }

void a_file_that_nobody_writes_is_mapped() {
  Folder folder;
  const std::string path = folder.file(content());
  MappedFile file;
  FileError error;
  CHECK(file.open(path.c_str(), &error) && file.bytes() == nullptr);
  CHECK(file.hold(&error) && error.code == FileCode::kOk);
  CHECK(holds(file, content()) && file.unchanged());
  CHECK(file.mapped() == mapping_is_safe(folder.file(content())));
  CHECK(file.hold(&error));  // again: nothing happens
}

void a_file_is_read_in_part_after_part() {
  for (const bool held_open : {false, true}) {
    Folder folder;
    std::string large;
    while (large.size() < 300000) {
      large += content();
    }
    const std::string path = folder.file(large);
    const int writer = held_open ? ::open(path.c_str(), O_WRONLY) : -1;
    MappedFile file;
    FileError error;
    CHECK(file.open(path.c_str(), &error) && file.begin(&error));
    CHECK(file.begin(&error) && file.begins_with(large.data(), 20, &error));
    CHECK(file.mapped() == (!held_open && mapping_is_safe(folder.file(content()))));
    for (std::uint64_t begin = 0; begin < large.size(); begin += 5000) {
      const std::uint64_t end = std::min<std::uint64_t>(large.size(), begin + 5000);
      CHECK(file.read_in(begin, end, &error));
      CHECK(std::memcmp(file.bytes() + begin, large.data() + begin, end - begin) == 0);
    }
    CHECK(file.read_in(7, 7, &error) && error.code == FileCode::kOk);
    CHECK(holds(file, large) && file.unchanged());
    if (writer >= 0) {
      close(writer);
    }
  }
}

void advice_on_memory_changes_none_of_it() {
  std::vector<float> floats(100000, 3.0F);
  for (const std::uint64_t shift : {0U, 1U, 17U}) {
    prefer_huge_pages(floats.data() + shift, 4 * (floats.size() - shift));
  }
  prefer_huge_pages(floats.data(), 4);
  prefer_huge_pages(nullptr, 0);
  CHECK(floats == std::vector<float>(100000, 3.0F));
}

void a_file_that_is_open_for_writing_is_copied() {
  Folder folder;
  const std::string path = folder.file(content());
  const int writer = ::open(path.c_str(), O_WRONLY);
  MappedFile file;
  FileError error;
  CHECK(file.open(path.c_str(), &error) && file.hold(&error));
  CHECK(!file.mapped() && holds(file, content()));
  // The copy stays as it was, and the change is seen.
  CHECK(file.unchanged());
  CHECK(write(writer, "x", 1) == 1);
  CHECK(!file.unchanged() && holds(file, content()));
  CHECK(ftruncate(writer, 0) == 0);
  CHECK(holds(file, content()));
  close(writer);
}

void a_file_that_changed_after_it_was_opened_is_refused() {
  for (const bool held_open : {false, true}) {
    for (const int change : {0, 1, 2}) {
      Folder folder;
      const std::string path = folder.file(content());
      MappedFile file;
      FileError error;
      CHECK(file.open(path.c_str(), &error));
      sleep_ms(15);  // longer than the clock of coarse time stamps
      const int writer = ::open(path.c_str(), O_WRONLY);
      const auto size = static_cast<off_t>(content().size());
      CHECK(change == 0   ? pwrite(writer, "x", 1, 10) == 1
            : change == 1 ? ftruncate(writer, size - 1) == 0
                          : ftruncate(writer, size + 1) == 0);
      if (!held_open) {
        close(writer);
      }
      CHECK(!file.unchanged());
      CHECK(!file.hold(&error) && error.code == FileCode::kChanged);
      if (held_open) {
        close(writer);
      }
    }
  }
}

void a_file_that_is_replaced_is_still_the_one_that_was_opened() {
  Folder folder;
  const std::string path = folder.file(content());
  const std::string other = folder.file("other");
  MappedFile file;
  FileError error;
  CHECK(file.open(path.c_str(), &error));
  CHECK(rename(other.c_str(), path.c_str()) == 0);
  CHECK(file.hold(&error) && holds(file, content()) && file.unchanged());
}

void a_file_begins_with_its_own_bytes_only() {
  Folder folder;
  const std::string path = folder.file("0123456789");
  MappedFile file;
  FileError error;
  CHECK(file.open(path.c_str(), &error) && file.hold(&error));
  CHECK(file.begins_with("", 0, &error) && file.begins_with("0123456789", 10, &error));
  CHECK(error.code == FileCode::kOk);
  CHECK(!file.begins_with("01234x", 6, &error) && error.code == FileCode::kChanged);
  CHECK(!file.begins_with("0123456789a", 11, &error));
  MappedFile empty;
  CHECK(empty.open(folder.file("").c_str(), &error) && empty.hold(&error));
  CHECK(empty.begins_with("", 0, &error) && !empty.begins_with("0", 1, &error));
}

void an_empty_file_has_no_bytes() {
  Folder folder;
  const std::string path = folder.file("");
  MappedFile file;
  FileError error;
  CHECK(file.open(path.c_str(), &error) && file.size() == 0);
  CHECK(file.hold(&error) && file.bytes() == nullptr && !file.mapped() && file.unchanged());
  std::byte byte;
  std::uint64_t got = 9;
  CHECK(file.read(0, 1, &byte, &got, &error) && got == 0);
}

void what_is_no_file_is_refused_without_waiting() {
  const Deadline deadline;
  Folder folder;
  const std::string fifo = folder.name("fifo");
  CHECK(mkfifo(fifo.c_str(), 0600) == 0);
  struct Case {
    std::string path;
    FileCode code;
    int system_error;
  };
  const std::string missing = folder.path() + "/missing";
  const std::string below = folder.file("x") + "/below";
  for (const Case& one :
       {Case{folder.path(), FileCode::kNotRegular, EISDIR}, Case{fifo, FileCode::kNotRegular, 0},
        Case{"/dev/zero", FileCode::kNotRegular, 0}, Case{missing, FileCode::kSystem, ENOENT},
        Case{"", FileCode::kSystem, ENOENT}, Case{below, FileCode::kSystem, ENOTDIR}}) {
    MappedFile file;
    FileError error;
    CHECK(!file.open(one.path.c_str(), &error));
    CHECK(error.code == one.code && error.system_error == one.system_error);
  }
}

void reading_stops_at_the_end_of_the_file() {
  Folder folder;
  const std::string path = folder.file(content());
  MappedFile file;
  FileError error;
  CHECK(file.open(path.c_str(), &error));
  for (const std::uint64_t offset :
       {std::uint64_t{0}, std::uint64_t{7}, file.size() - 3, file.size(), file.size() + 100}) {
    const Bytes bytes(10);
    std::uint64_t got = 99;
    CHECK(file.read(offset, 10, bytes.data(), &got, &error));
    const std::uint64_t there = offset < file.size() ? file.size() - offset : 0;
    CHECK(got == std::min<std::uint64_t>(10, there));
    CHECK(std::memcmp(bytes.data(), content().data() + std::min(offset, file.size()), got) == 0);
  }
}

volatile sig_atomic_t signals = 0;

void whoever_wants_to_write_waits_while_the_file_is_held() {
  const Deadline deadline;
  // What the kernel tells the holder of a lease must not interrupt the program.
  signals = 0;
  for (const int number : {SIGIO, SIGURG}) {
    signal(number, [](int) { signals = signals + 1; });
  }
  // Each comes by another way: open, open with truncation, truncate without open.
  for (const int way : {0, 1, 2}) {
    Folder folder;
    const std::string path = folder.file(content());
    int started[2];
    CHECK(pipe(started) == 0);
    auto file = std::make_unique<MappedFile>();
    FileError error;
    CHECK(file->open(path.c_str(), &error) && file->hold(&error));
    Child writer([&] {
      bool done = write(started[1], "x", 1) == 1;
      if (way == 2) {
        return done && truncate(path.c_str(), 3) == 0;
      }
      const int descriptor = ::open(path.c_str(), O_WRONLY | (way == 1 ? O_TRUNC : 0));
      done = done && descriptor >= 0 && pwrite(descriptor, "changed", 7, 0) == 7;
      close(descriptor);
      return done;
    });
    char byte;
    CHECK(read(started[0], &byte, 1) == 1);
    sleep_ms(50);
    if (file->mapped()) {
      CHECK(writer.running() && file->unchanged());
    }
    CHECK(holds(*file, content()));
    file = std::make_unique<MappedFile>();
    CHECK(writer.wait());
    CHECK(file->open(path.c_str(), &error));
    CHECK(file->size() == (way == 0 ? content().size() : way == 1 ? 7 : 3));
    CHECK(file->hold(&error) && !holds(*file, content()));
    close(started[0]);
    close(started[1]);
  }
  CHECK(signals == 0);
  signal(SIGIO, SIG_DFL);
  signal(SIGURG, SIG_DFL);
}

void a_child_process_does_not_prolong_the_hold() {
  const Deadline deadline;
  Folder folder;
  const std::string path = folder.file(content());
  auto file = std::make_unique<MappedFile>();
  FileError error;
  CHECK(file->open(path.c_str(), &error) && file->hold(&error));
  Child heir([] {
    sleep_ms(10000);
    return true;
  });
  file.reset();
  const auto start = std::chrono::steady_clock::now();
  const int writer = ::open(path.c_str(), O_WRONLY);
  CHECK(writer >= 0);
  close(writer);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

struct Test {
  const char* name;
  void (*run)();
};

#define TEST(name) {#name, name}
constexpr Test kTests[] = {
    TEST(a_version_since_0_2_has_a_header_of_20_bytes),
    TEST(a_version_before_0_2_has_a_header_of_16_bytes),
    TEST(versions_count_as_darknet_counts_them),
    TEST(the_size_of_the_file_overrules_the_version),
    TEST(every_prefix_of_a_header_is_refused_with_both_numbers),
    TEST(text_is_read_as_a_header_without_overflow),
    TEST(bytes_behind_the_end_of_the_file_are_not_read),
    TEST(a_row_of_the_plan_is_a_segment),
    TEST(a_file_that_ends_inside_a_segment_is_too_short),
    TEST(a_file_that_ends_inside_a_batch_normalization_is_too_short),
    TEST(a_segment_ends_where_the_last_of_its_bytes_does),
    TEST(a_batch_normalization_of_blocks_has_the_filters_of_all),
    TEST(a_file_of_another_size_is_refused_even_where_every_segment_fits),
    TEST(rows_that_describe_no_array_are_refused),
    TEST(no_plan_whatever_reaches_outside_the_file),
    TEST(a_variable_of_its_segment_is_accepted),
    TEST(a_variable_of_another_kind_is_refused),
    TEST(a_moving_variance_is_finite_and_not_negative),
    TEST(the_variance_of_a_folded_batch_normalization_is_checked),
    TEST(every_error_is_described_in_one_line),
    TEST(the_reference_of_rounding_is_right),
    TEST(all_exponents_round_to_nearest_even),
    TEST(every_tie_rounds_to_even),
    TEST(scatter_moves_every_float_of_odd_shapes_to_its_place),
    TEST(scatter_moves_segments_of_several_tasks),
    TEST(scatter_takes_offsets_that_are_not_aligned),
    TEST(folding_multiplies_every_filter_by_its_scale),
#if defined(__SSE__)
    TEST(subnormal_numbers_arrive_where_the_processor_takes_them_for_zero),
#endif
    TEST(forcing_portable_code_is_heard),
    TEST(tasks_cover_every_float_exactly_once),
    TEST(every_prefix_of_a_file_is_refused_and_writes_nothing),
    TEST(statistics_are_those_of_a_loop),
    TEST(numbers_that_are_not_finite_leave_the_extremes_to_those_that_are),
    TEST(a_file_that_nobody_writes_is_mapped),
    TEST(a_file_is_read_in_part_after_part),
    TEST(advice_on_memory_changes_none_of_it),
    TEST(a_file_that_is_open_for_writing_is_copied),
    TEST(a_file_that_changed_after_it_was_opened_is_refused),
    TEST(a_file_that_is_replaced_is_still_the_one_that_was_opened),
    TEST(a_file_begins_with_its_own_bytes_only),
    TEST(an_empty_file_has_no_bytes),
    TEST(what_is_no_file_is_refused_without_waiting),
    TEST(reading_stops_at_the_end_of_the_file),
    TEST(whoever_wants_to_write_waits_while_the_file_is_held),
    TEST(a_child_process_does_not_prolong_the_hold),
};

}  // namespace
}  // namespace yolotf

int main() {
  int passed = 0;
  int failed = 0;
  for (const auto& test : yolotf::kTests) {
    try {
      test.run();
      ++passed;
    } catch (const std::exception& error) {
      std::printf("%s: %s\n", test.name, error.what());
      ++failed;
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
