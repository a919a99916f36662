// The plan of a load: which floats of the file go into which variable, and the checks that prove
// it.
//
// What the floats mean is the caller's knowledge, given as segments. A convolution is beta (or
// bias), then, with batch norm, gamma, mean, variance, then the kernel in OIHW order. Functions
// take bytes and return an Error; none throws, prints or keeps a reference. Offsets and sizes are
// in bytes, counts in floats.
#ifndef YOLOTF_CSRC_WEIGHTS_PLAN_H_
#define YOLOTF_CSRC_WEIGHTS_PLAN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "weights/bytes.h"
#include "weights/error.h"

namespace yolotf {

constexpr int kMaxRank = 5;
constexpr std::uint64_t kNormArrays = 3;  // gamma, mean and variance, which touch in the file

enum class Role : std::int64_t {
  kBias = 0,
  kBeta = 1,
  kGamma = 2,
  kMovingMean = 3,
  kMovingVariance = 4,
  kKernel = 5,
  kWeights = 6,
  kScale = 7,  // only folded: what a batch normalization multiplies by
};

// A run of floats in the file and the variable it is meant for.
//
// In the file it is [blocks][filters][channels][spatial], in the variable
// [blocks][spatial][channels][filters]: OIHW to HWIO for any kind of convolution, in blocks of
// filters if it is to be so, (out, in) to (in, out) for a dense kernel with spatial = 1, one kernel
// a position for [local], and a plain copy with filters = spatial = 1. A kernel that stays as it is
// in the file while a batch normalization is folded in has one block a filter, and all of a
// filter's floats for channels.
struct Segment {
  std::uint64_t offset = 0;  // from the start of the file
  // Where the gamma, mean and variance of `blocks` * `filters` numbers each start if a batch
  // normalization is to be folded in; 0 if not. A kernel is multiplied by
  // gamma / sqrt(variance + 1e-5), a bias becomes beta - mean * that, a kScale is that itself
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
  std::uint64_t all_filters() const noexcept { return blocks * filters; }
};

// An array as it stands in the file.
struct Array {
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
  std::uint64_t filter = 1;  // floats of one filter
  Role role = Role::kWeights;
  std::int64_t segment = -1;  // that takes it

  std::uint64_t end() const noexcept { return offset + kFloatBytes * count; }
};

// What `segment` takes: its own array and, if a batch normalization is folded in, the three of
// that.
struct SegmentArrays {
  Array arrays[1 + kNormArrays];
  std::size_t count = 1;
  const Array* begin() const noexcept { return arrays; }
  const Array* end() const noexcept { return arrays + count; }
};
SegmentArrays arrays_in(const Segment& segment, std::int64_t index) noexcept;

// The byte behind the last one that `segment` takes, those of its batch normalization included.
std::uint64_t end_of(const Segment& segment) noexcept;

// The plan as it comes from Python: a row of kPlanColumns int64 a segment. They are kPlanFields and
// the variable's extents, unused ones 1. Any numbers are safe: check_segments refuses what
// describes no array.
constexpr std::array<const char*, 8> kPlanFields = {"offset",   "norm_offset", "blocks", "filters",
                                                    "channels", "spatial",     "role",   "rank"};
constexpr std::int64_t kPlanColumns = kPlanFields.size() + kMaxRank;
std::vector<Segment> segments_from_rows(const std::int64_t* rows, std::int64_t row_count);

enum class Dtype : std::int64_t { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2, kOther = 3 };

// Bytes of one element; 0 for kOther.
std::uint64_t element_bytes(Dtype dtype) noexcept;

// The memory of a variable, as found. data is only used by scatter.
struct Target {
  Dtype dtype = Dtype::kOther;
  bool initialized = false;
  int rank = 0;
  std::uint64_t shape[8] = {};
  void* data = nullptr;
};

// Proves that a file of `file_bytes` bytes has the `expected_bytes` that it must have, unless that
// is negative, that every segment lies within it behind the header, and that the extents of every
// segment do not overflow and multiply to its shape. Safe on untrusted input.
bool check_segments(const std::vector<Segment>& segments, std::uint64_t header_bytes,
                    std::int64_t expected_bytes, std::uint64_t file_bytes, Error* error) noexcept;

// Proves that `target` can take `segment`: initialised, float32 (or 16 bits wide, with `cast`), and
// of the segment's shape. index is only reported.
bool check_target(const Segment& segment, std::int64_t index, const Target& target, bool cast,
                  Error* error) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_PLAN_H_
