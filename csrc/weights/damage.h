// Detects damage in the numbers of a file, without knowing the network.
//
// The limits were tuned on real files, in which no array has more than 5 zeros in a row. Subnormal
// numbers count as zero: dead depthwise channels store -7e-44.
//
// * kNonfinite: NaN or infinity in any array.
// * kHuge: a magnitude of kHugeNumber or more in any array. The largest value in the real files is
//   365; flipping the highest exponent bit turns every value from 3e-9 up into 1e30 or more.
// * kNegativeVariance: a moving variance below zero.
// * kZeros: bytes that were never written. A file in which every number is zero is accepted. In any
//   other file, these are damage:
//   - a batch normalization whose gammas and variances are all zero (an untrained network has zero
//     variances, but gammas of 1);
//   - in a kernel, a run of kZeroRun zeros (a page) or more; at the end of the file, of kZeroTail.
//   A run of whole filters may be dead filters: with batch normalization, only the zeros of filters
//   count whose gamma and variance are not zero; without, the whole kernel may be zero, and a part
//   is damage only from kDeadRun zeros on (kZeroRun at the end of the file). All kernels may be
//   zero if other arrays are not. In a pruned kernel, where more than half of the numbers outside
//   the run are zero, no run is damage.
// * kRepeated: the same kRepeatBytes or more in two places that do not overlap, a whole number of
//   floats apart. A block that repeats itself (a constant, a pattern) is not damage.
//
// There are two steps: `scan_for_damage` reads every float once, in parts and on any number of
// threads, and records suspicious places; `find_damage` then examines only those. Both take time
// linear in the size of the file, whatever its content.
#ifndef YOLOTF_CSRC_WEIGHTS_DAMAGE_H_
#define YOLOTF_CSRC_WEIGHTS_DAMAGE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "weights/bytes.h"
#include "weights/error.h"
#include "weights/plan.h"

namespace yolotf {

constexpr float kHugeNumber = 1e30F;
constexpr std::uint64_t kZeroRun = 1024;
constexpr std::uint64_t kZeroTail = 64;
constexpr std::uint64_t kDeadRun = 16 * 1024;
constexpr std::uint64_t kRepeatBytes = 64 * 1024;

// Returns the arrays that `segments` read, in file order. Of arrays that overlap, only the first is
// kept. The segments must have passed check_segments.
std::vector<Array> sorted_arrays(const std::vector<Segment>& segments);

// What `scan_for_damage` recorded in one part of the file.
struct ScanResult {
  // A hash of the floats that begin at `offset`.
  struct Sample {
    std::uint64_t offset;
    std::uint64_t hash;
  };
  std::vector<ByteRange> huge_ranges;  // contain NaN, infinity or values of 1e30 or more
  std::vector<ByteRange> zero_ranges;  // contain only zeros
  std::vector<Sample> samples;
};

// Scans the floats in bytes `begin` to `end` of a file. However the file is divided into parts, at
// least a part of every run of kZeroRun zeros is recorded.
void scan_for_damage(const std::byte* bytes, std::uint64_t begin, std::uint64_t end,
                     ScanResult* result);

// Returns the damage in `arrays`, all of which must have been scanned: in file order, at most one
// error of each kind per array. `file_bytes` is the size of the file.
std::vector<Error> find_damage(const std::byte* bytes, std::uint64_t file_bytes,
                               const std::vector<Array>& arrays,
                               const std::vector<ScanResult>& results);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_DAMAGE_H_
