// Darknet's .weights format, and how its floats are moved into variables.
//
// The file (AlexeyAB/darknet src/parser.c:2242-2355, all little-endian):
//
//   int32 major, minor, revision
//   uint64 seen    if major * 10 + minor >= 2 and both are below 1000: 20 bytes so far
//   uint32 seen    otherwise: 16 bytes so far
//   float32 ...    up to the end of the file: no names, no shapes, no padding
//
// Some writers state a version that does not match the width of `seen`; where the number of floats
// is known, the width that makes the size exact is the right one. major or minor above 1000 says
// that dense kernels are stored (in, out) in place of (out, in).
//
// What the floats mean is the caller's knowledge, given as segments in file order. A convolution
// is beta (or bias), then, with batch norm, gamma, mean, variance, then the kernel in OIHW order.
//
// This file knows neither TensorFlow nor Python nor files: functions take bytes and return an
// Error. No function throws, prints or keeps a reference. Offsets and sizes are in bytes,
// counts in floats.
#ifndef YOLOTF_CSRC_WEIGHTS_H_
#define YOLOTF_CSRC_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace yolotf {

constexpr std::uint64_t kFloatBytes = 4;
constexpr std::uint64_t kNarrowHeaderBytes = 16;
constexpr std::uint64_t kWideHeaderBytes = 20;
constexpr int kMaxRank = 5;

enum class Code {
  kOk = 0,
  kHeaderTooShort,  // expected, found: bytes
  kFileTooShort,    // segment; expected: bytes up to its end, found: bytes of the file
  kWrongSize,       // expected, found: bytes of the file
  kBadSegment,      // segment: its extents overflow, or do not multiply to its shape
  kWrongRank,       // segment; expected, found: number of axes
  kWrongShape,      // segment; axis; expected, found: extent of that axis
  kWrongDtype,      // segment; expected, found: Dtype
  kUninitialized,   // segment
  kBadVariance,     // segment; offset: byte of the first float that is negative or not finite
  kShared,          // segment, expected: two segments with one destination
};

// What went wrong; the fields beside `code` mean what the comment of its value says.
struct Error {
  Code code = Code::kOk;
  std::int64_t segment = -1;
  int axis = -1;
  std::uint64_t offset = 0;
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
};

// One line in English; lower case, no final stop.
std::string describe(const Error& error);

struct Header {
  std::int32_t major = 0;
  std::int32_t minor = 0;
  std::int32_t revision = 0;
  std::uint64_t seen = 0;
  std::uint64_t size_bytes = 0;          // as decided: 16 or 20
  std::uint64_t version_size_bytes = 0;  // as the version says
  bool transposed = false;
};

// Reads the header at the start of a .weights file of `file_bytes` bytes.
// Returns false and fills *error if the file is shorter than its header.
// Safe on untrusted input: reads at most min(20, available) bytes.
// bytes may be unaligned; floats is how many the network has, or negative if that is not known.
bool parse_header(const std::byte* bytes, std::uint64_t available, std::uint64_t file_bytes,
                  std::int64_t floats, Header* header, Error* error) noexcept;

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
// a position for [local], and a plain copy with filters = spatial = 1.
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

// The byte behind the last one that `segment` takes, those of its batch normalization included.
std::uint64_t end_of(const Segment& segment) noexcept;

// The plan as it comes from Python: a row of kPlanColumns int64 a segment. They are offset,
// norm_offset, blocks, filters, channels, spatial, role, rank and the variable's extents, unused
// ones 1. Any numbers are safe: check_segments refuses what describes no array.
constexpr std::int64_t kPlanColumns = 8 + kMaxRank;
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

// Looks for a number that no moving variance can be: negative, infinite or not a number, in a
// segment that is one or that folds one in. Others pass. bytes is the start of the file; the
// segment has passed check_segments for it.
bool check_variance(const std::byte* bytes, const Segment& segment, std::int64_t index,
                    Error* error) noexcept;

// A part of one segment that can be written independently of all others.
struct Task {
  std::uint32_t segment;
  std::uint64_t block;
  std::uint64_t begin;  // floats for a copy, filters for a transpose
  std::uint64_t end;
};

// Splits segments into tasks of some 100 KB to 1 MB.
std::vector<Task> split(const std::vector<Segment>& segments);

// Writes one task of `segment` from the file's bytes into the target's memory. No checks: both have
// passed check_segments and check_target. Tasks may run at the same time.
void scatter(const std::byte* bytes, const Segment& segment, const Target& target,
             const Task& task) noexcept;

// The instruction set that scatter uses on this machine: "avx2" or "portable".
const char* scatter_isa() noexcept;

// For tests: use the portable code even where a faster one would run.
void force_portable(bool portable) noexcept;

// What a run of floats looks like.
struct Stats {
  std::uint64_t count = 0;
  std::uint64_t nonfinite = 0;
  std::uint64_t negative = 0;
  std::uint64_t zero = 0;
  double minimum = 0;  // the rest over the finite numbers
  double maximum = 0;
  double sum = 0;
  double sum_of_squares = 0;
};

// Adds `count` floats at `bytes` (any alignment) to *stats.
void add_stats(const std::byte* bytes, std::uint64_t count, Stats* stats) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_H_
