#include "weights/plan.h"

#include <functional>
#include <initializer_list>
#include <random>

#include "testing.h"

TEST_SUITE_BEGIN("plan");

namespace yolotf {
namespace {

using Row = std::vector<std::int64_t>;

// Checks a row of a plan, and if it is accepted, repeats the checks with integers that cannot
// overflow.
Error check_row(const Row& row, std::uint64_t header_bytes, std::uint64_t file_bytes) {
  const Bytes copy(row.data(), row.size() * sizeof(std::int64_t));
  const std::vector<Segment> segments =
      segments_from_rows(reinterpret_cast<const std::int64_t*>(copy.data()), 1);
  REQUIRE(segments.size() == 1);
  Error error;
  const bool sound = check_segments(segments, header_bytes, -1, file_bytes, &error);
  REQUIRE(sound == (error.code == Code::kOk));
  if (sound) {
    __extension__ using Wide = unsigned __int128;
    const Segment& segment = segments[0];
    Wide count = segment.blocks;
    for (const std::uint64_t extent : {segment.filters, segment.channels, segment.spatial}) {
      count *= extent;
      REQUIRE(count > 0);
      REQUIRE(count <= kHuge);
    }
    Wide variable_count = 1;
    REQUIRE(segment.rank >= 0);
    REQUIRE(segment.rank <= kMaxRank);
    for (int axis = 0; axis < segment.rank; ++axis) {
      variable_count *= segment.shape[axis];
      REQUIRE(variable_count <= kHuge);
    }
    REQUIRE(variable_count == count);
    REQUIRE(segment.count() == count);
    REQUIRE(segment.offset >= header_bytes);
    REQUIRE(segment.offset + 4 * count <= file_bytes);
    if (segment.norm_offset != 0) {
      // Gamma, mean and variance have a float for each filter, or for each float of a bias.
      const Wide numbers =
          segment.role == Role::kKernel ? Wide{segment.blocks} * segment.filters : count;
      REQUIRE(segment.norm_offset >= header_bytes);
      REQUIRE(segment.norm_offset + 12 * numbers <= file_bytes);
    }
  }
  return error;
}

TEST_CASE("a row of the plan is a segment") {
  const Row rows = {20,  0, 1, 2, 3, 4, 5, 4, 2, 2, 3, 2, 1,  //
                    116, 0, 1, 1, 7, 1, 1, 1, 7, 1, 1, 1, 1};
  const std::vector<Segment> segments = segments_from_rows(rows.data(), 2);
  REQUIRE(segments.size() == 2);
  CHECK(segments[0].offset == 20);
  CHECK(segments[0].filters == 2);
  CHECK(segments[0].channels == 3);
  CHECK(segments[0].spatial == 4);
  CHECK(segments[0].role == Role::kKernel);
  CHECK(segments[0].rank == 4);
  CHECK(segments[0].shape[2] == 3);
  CHECK(segments[0].shape[3] == 2);
  CHECK(segments[0].count() == 24);
  CHECK(segments[1].offset == 116);
  CHECK(segments[1].role == Role::kBeta);
  CHECK(segments[1].rank == 1);
  Error error;
  REQUIRE(check_segments(segments, 20, 144, 144, &error));
  REQUIRE(check_segments(segments, 20, -1, 1000, &error));
  CHECK(error.code == Code::kOk);
}

TEST_CASE("a file that ends inside a segment is too short") {
  const std::vector<Segment> segments = {segment_of(20, 1, 1, 7, 1), segment_of(48, 1, 2, 3, 4)};
  for (std::uint64_t file_bytes = 0; file_bytes < 144; ++file_bytes) {
    Error error;
    REQUIRE(!check_segments(segments, 20, 144, file_bytes, &error));
    REQUIRE(is(error, Code::kFileTooShort, file_bytes < 48 ? 0 : 1, file_bytes < 48 ? 48 : 144,
               file_bytes));
  }
}

TEST_CASE("a file that ends inside a batch normalization is too short") {
  Segment segment = segment_of(20, 1, 2, 3, 4);
  segment.norm_offset = 200;
  for (std::uint64_t file_bytes = 116; file_bytes <= 224; ++file_bytes) {
    Error error;
    REQUIRE(check_segments({segment}, 20, -1, file_bytes, &error) == (file_bytes == 224));
    // The first of gamma, mean and variance that is cut.
    const std::uint64_t cut = file_bytes < 208 ? 0 : file_bytes < 216 ? 1 : 2;
    REQUIRE((file_bytes == 224 || is(error, Code::kFileTooShort, 0, 208 + 8 * cut, file_bytes)));
    REQUIRE((file_bytes == 224 || (error.offset == 200 + 8 * cut && error.end == error.offset + 8 &&
                                   error.role == static_cast<std::int64_t>(Role::kGamma) +
                                                     static_cast<std::int64_t>(cut))));
  }
}

TEST_CASE("a segment ends with its last byte") {
  Segment segment = segment_of(100, 3, 2, 5, 4);
  CHECK(end_offset(segment) == 100 + 4 * 120);
  segment.norm_offset = 40;
  CHECK(end_offset(segment) == 100 + 4 * 120);
  segment.norm_offset = 1000;
  CHECK(end_offset(segment) == 1000 + 3 * 4 * 6);
}

TEST_CASE("a batch normalization of blocks has the filters of all blocks") {
  Segment segment = segment_of(20, 3, 2, 3, 4);
  segment.norm_offset = 400;
  for (std::uint64_t file_bytes = 400; file_bytes <= 472; ++file_bytes) {
    Error error;
    REQUIRE(check_segments({segment}, 20, -1, file_bytes, &error) == (file_bytes == 472));
    const std::uint64_t cut = file_bytes < 424 ? 424 : file_bytes < 448 ? 448 : 472;
    REQUIRE((file_bytes == 472 || is(error, Code::kFileTooShort, 0, cut, file_bytes)));
  }
}

TEST_CASE("a file of the wrong size is refused even if every segment fits") {
  const std::vector<Segment> segments = {segment_of(20, 1, 1, 7, 1)};
  Error error;
  REQUIRE(!check_segments(segments, 20, 48, 49, &error));
  CHECK(is(error, Code::kWrongSize, -1, 48, 49));
  REQUIRE(!check_segments(segments, 20, 52, 48, &error));
  CHECK(is(error, Code::kWrongSize, -1, 52, 48));
  REQUIRE(check_segments({}, 20, 20, 20, &error));
  REQUIRE(!check_segments({}, 20, 20, 24, &error));
}

TEST_CASE("rows that describe no array are refused") {
  constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t k32 = std::int64_t{1} << 32;
  const std::vector<Row> rows = {
      {0, 0, 1, 1, 7, 1, 0, 1, 7, 1, 1, 1, 1},  // inside the header
      {19, 0, 1, 1, 7, 1, 0, 1, 7, 1, 1, 1, 1},
      {20, 0, 0, 1, 7, 1, 0, 1, 0, 1, 1, 1, 1},  // no floats
      {20, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1},
      {20, 0, 1, 1, 7, 1, 8, 1, 7, 1, 1, 1, 1},  // no such role
      {20, 0, 1, 1, 7, 1, -1, 1, 7, 1, 1, 1, 1},
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
      // A batch normalization inside the header, with an end that overflows, and with fewer floats
      // than the bias into which it is folded.
      {20, 19, 1, 2, 7, 1, 5, 2, 2, 7, 1, 1, 1},
      {20, -1, 1, 2, 7, 1, 5, 2, 2, 7, 1, 1, 1},
      {20, -24, 1, 2, 7, 1, 5, 2, 2, 7, 1, 1, 1},
      {20, 20, 7, 2, 1, 1, 1, 2, 2, 7, 1, 1, 1},
      {20, 20, 1, 1, 7, 1, 1, 1, 7, 1, 1, 1, 1},
      {20, 20, 1, 2, 7, 1, 7, 2, 2, 7, 1, 1, 1},
  };
  for (const Row& row : rows) {
    REQUIRE(row.size() == kPlanColumns);
    for (const std::uint64_t file_bytes : {std::uint64_t{76}, kHuge}) {
      const Error error = check_row(row, 20, file_bytes);
      REQUIRE(error.code == Code::kBadSegment);
      REQUIRE(error.segment == 0);
    }
  }
}

TEST_CASE("no accepted plan reaches outside the file") {
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

TEST_CASE("a variable that matches its segment is accepted") {
  const Segment segment = segment_of(20, 1, 2, 3, 4);
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBfloat16}) {
    Error error;
    REQUIRE(check_target(segment, 0, target_of(segment, dtype, nullptr), true, &error));
    REQUIRE(error.code == Code::kOk);
  }
}

TEST_CASE("a variable that does not match its segment is refused") {
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
    REQUIRE(is(refused([&](Target* target) { target->dtype = dtype; }, false), Code::kWrongDtype, 3,
               number(Dtype::kFloat32), number(dtype)));
  }
  CHECK(is(refused([](Target* target) { target->dtype = Dtype::kOther; }, true), Code::kWrongDtype,
           3, number(Dtype::kFloat32), number(Dtype::kOther)));
  for (const int rank : {0, 1, 3, 5, 8, 254}) {
    REQUIRE(is(refused([&](Target* target) { target->rank = rank; }, false), Code::kWrongRank, 3, 4,
               static_cast<std::uint64_t>(rank)));
  }
  for (int axis = 0; axis < 4; ++axis) {
    const Error error = refused([&](Target* target) { target->shape[axis] = 99; }, false);
    REQUIRE(is(error, Code::kWrongShape, 3, segment.shape[axis], 99));
    REQUIRE(error.axis == axis);
  }
}

TEST_CASE("every error is described in one line") {
  Error error;
  error.segment = 7;
  error.axis = 2;
  error.offset = 1234;
  error.expected = 2;
  error.found = 1;
  const auto description = [&](Code code) {
    error.code = code;
    return describe(error);
  };
  CHECK(description(Code::kOk) == "no error");
  CHECK(description(Code::kHeaderTooShort) == "header needs 2 bytes, file has 1");
  CHECK(description(Code::kFileTooShort) ==
        "file too short: segment 7 ends at byte 2, the file at byte 1");
  CHECK(description(Code::kWrongSize) == "plan needs 2 bytes, file has 1");
  CHECK(description(Code::kBadSegment) == "segment 7 does not describe an array");
  CHECK(description(Code::kWrongRank) == "variable of segment 7 has 1 axes, plan needs 2");
  CHECK(description(Code::kWrongShape) ==
        "variable of segment 7 has 1 elements in axis 2, plan needs 2");
  CHECK(description(Code::kWrongDtype) == "variable of segment 7 is float16, plan needs bfloat16");
  CHECK(description(Code::kUninitialized) == "variable of segment 7 is not initialized");
  error.end = 1238;
  CHECK(description(Code::kNonfinite) ==
        "segment 7 has 1 NaN or infinite numbers in bytes 1234..1238");
  CHECK(description(Code::kHuge) == "segment 7 has 1 numbers of 1e30 or more in bytes 1234..1238");
  CHECK(description(Code::kNegativeVariance) ==
        "moving_variance of segment 7 has 1 negative numbers in bytes 1234..1238");
  CHECK(description(Code::kZeros) == "segment 7 is all zeros in bytes 1234..1238");
  CHECK(description(Code::kRepeated) == "segment 7 repeats bytes 2..1 in bytes 1234..1238");
  CHECK(description(Code::kShared) == "segment 7 and segment 2 go into the same variable");
  error.expected = static_cast<std::uint64_t>(Dtype::kFloat32);
  error.found = static_cast<std::uint64_t>(Dtype::kOther);
  CHECK(description(Code::kWrongDtype) ==
        "variable of segment 7 is of another dtype, plan needs float32");
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
