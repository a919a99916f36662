// The plan of a load: which floats of the file go into which variable, and the checks that the file
// and the variables fit the plan.
//
// The caller knows the network and describes its floats as segments. A convolution is stored as
// beta (or bias), then, with batch normalization, gamma, mean and variance, then the kernel in OIHW
// order. Offsets and sizes are in bytes, counts in floats.
#ifndef YOLOTF_CSRC_WEIGHTS_PLAN_H_
#define YOLOTF_CSRC_WEIGHTS_PLAN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "weights/bytes.h"
#include "weights/error.h"

namespace yolotf {

constexpr int kMaxRank = 5;               // of a segment's variable
constexpr int kMaxTargetRank = 8;         // a Target has at most so many extents
constexpr std::uint64_t kNormArrays = 3;  // gamma, mean and variance, adjacent in the file

enum class Role : std::int64_t {
  kBias = 0,
  kBeta = 1,
  kGamma = 2,
  kMovingMean = 3,
  kMovingVariance = 4,
  kKernel = 5,
  kWeights = 6,
  kScale = 7,  // gamma / sqrt(variance + 1e-5); only of a variable, never in a file
};

// Consecutive floats of the file, and the layout of the variable that they go into.
//
// In the file the floats are [blocks][filters][channels][spatial], in the variable
// [blocks][spatial][channels][filters]. This covers
//
// * convolutions, OIHW to HWIO: one block, or several if the variable splits its filters;
// * [local]: a block for each position;
// * dense kernels, (out, in) to (in, out): spatial = 1;
// * plain copies: filters = spatial = 1;
// * kernels that keep their order while a batch normalization is folded in: a block for each
//   filter, with all its floats as channels.
struct Segment {
  std::uint64_t offset = 0;  // from the start of the file
  // To fold in a batch normalization: the offset of its gamma, mean and variance, each of
  // `blocks` * `filters` floats; otherwise 0. With scale = gamma / sqrt(variance + 1e-5), a kernel
  // is multiplied by scale, a bias becomes beta - mean * scale, and a kScale becomes scale
  // (network.c:1297-1335).
  std::uint64_t norm_offset = 0;
  std::uint64_t blocks = 1;
  std::uint64_t filters = 1;
  std::uint64_t channels = 0;
  std::uint64_t spatial = 1;
  Role role = Role::kWeights;
  int rank = 0;
  std::uint64_t shape[kMaxRank] = {};  // of the variable

  std::uint64_t count() const noexcept { return blocks * filters * channels * spatial; }
  std::uint64_t all_filters() const noexcept { return blocks * filters; }  // of all blocks
};

// An array of the file.
struct Array {
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
  std::uint64_t filter_floats = 1;  // floats of each filter
  Role role = Role::kWeights;
  std::int64_t segment = -1;  // index of the segment that reads it

  std::uint64_t end() const noexcept { return offset + kFloatBytes * count; }
};

// The arrays that a segment reads: its own and, if a batch normalization is folded in, gamma, mean
// and variance.
struct SegmentArrays {
  Array arrays[1 + kNormArrays];
  std::size_t count = 1;
  const Array* begin() const noexcept { return arrays; }
  const Array* end() const noexcept { return arrays + count; }
};
SegmentArrays arrays_of(const Segment& segment, std::int64_t index) noexcept;

// The offset after the last byte that `segment` reads, including its batch normalization.
std::uint64_t end_offset(const Segment& segment) noexcept;

// Converts the plan that Python passes: for each segment a row of kPlanColumns int64, which are
// kPlanFields and the variable's extents, padded with 1. Any numbers are safe: check_segments
// rejects rows that describe no array.
constexpr std::array<const char*, 8> kPlanFields = {"offset",   "norm_offset", "blocks", "filters",
                                                    "channels", "spatial",     "role",   "rank"};
constexpr std::int64_t kPlanColumns = kPlanFields.size() + kMaxRank;
std::vector<Segment> segments_from_rows(const std::int64_t* rows, std::int64_t row_count);

enum class Dtype : std::int64_t { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2, kOther = 3 };

// Bytes of one element; 0 for kOther.
std::uint64_t element_bytes(Dtype dtype) noexcept;

// A variable as it is, whether it fits the plan or not.
struct Target {
  Dtype dtype = Dtype::kOther;
  bool initialized = false;
  int rank = 0;
  std::uint64_t shape[kMaxTargetRank] = {};  // the first extents if the rank is higher
  void* data = nullptr;                      // only used by scatter()
};

// Checks that the file has `expected_bytes` bytes (unless that is negative), that every segment
// lies between the header and the end of the file, and that the extents of every segment do not
// overflow and multiply to the size of its shape. Safe on untrusted input.
bool check_segments(const std::vector<Segment>& segments, std::uint64_t header_bytes,
                    std::int64_t expected_bytes, std::uint64_t file_bytes, Error* error) noexcept;

// Checks that `target` can receive `segment`: it is initialized, float32 (with `cast` also float16
// or bfloat16), and of the segment's shape. `index` is the segment's, for the error.
bool check_target(const Segment& segment, std::int64_t index, const Target& target, bool cast,
                  Error* error) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_PLAN_H_
