// Damage that shows in the numbers of a file, whatever network it belongs to.
//
// The rules were tuned on real files, in which no array has more than 5 zeros in a row. A subnormal
// of either sign counts as zero: dead depthwise channels store -7e-44.
//
// * kNonfinite: NaN or infinity, in any role.
// * kHuge: a magnitude of kHugeNumber or more, in any role. The largest value in the real files is
//   365; a flipped highest exponent bit turns every value from 3e-9 up into 1e30 or more.
// * kNegativeVariance: a moving variance below zero.
// * kZeros: bytes that were never written. A file of zeros alone is accepted: it is no evidence of
//   damage. In other files, damage is:
//   - a batch normalization whose gamma and variance are all zero (an untrained network has zero
//     variances, but gammas of 1);
//   - in a kernel, a run of at least kZeroRun zeros (a page), or of kZeroTail at the end of the
//   file. A run that begins and ends between two filters can be dead filters. With batch
//   normalization it counts as damage only if gamma and variance of the filters are not zero as
//   well. A kernel without batch normalization may be all zero, or have such runs of fewer than
//   kDeadRun zeros (kZeroRun at the end of the file); all kernels may be zero if something else is
//   not. In a pruned kernel, where more than half of the other values are zero, no run counts.
// * kRepeated: the same kRepeatBytes or more in two places that do not overlap, a whole number of
//   floats apart. A block that repeats itself (a constant, a pattern) does not count.
//
// The check has two steps: `scan_for_damage` reads every float once, in parts and on any number of
// threads, and notes suspicious places; `find_damage` then examines only these. Both take time
// linear in the size of the file, whatever its content.
#ifndef YOLOTF_CSRC_WEIGHTS_DAMAGE_H_
#define YOLOTF_CSRC_WEIGHTS_DAMAGE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "weights/error.h"
#include "weights/plan.h"

namespace yolotf {

constexpr float kHugeNumber = 1e30F;
constexpr std::uint64_t kZeroRun = 1024;
constexpr std::uint64_t kZeroTail = 64;
constexpr std::uint64_t kDeadRun = 16 * 1024;
constexpr std::uint64_t kRepeatBytes = 64 * 1024;

// The arrays of checked segments, each once and in file order, without those that overlap
// others.
std::vector<Array> arrays_of(const std::vector<Segment>& segments);

// What `scan_for_damage` noted; `find_damage` takes those of all threads.
struct ScanResult {
  struct Run {
    std::uint64_t begin;
    std::uint64_t end;
  };
  struct Sample {
    std::uint64_t offset;
    std::uint64_t hash;
  };
  std::vector<Run> huge;   // byte ranges that contain NaN, infinity or values of 1e30 or more
  std::vector<Run> zeros;  // byte ranges that are all zeros
  std::vector<Sample> samples;
};

// Scans the floats in bytes `begin` to `end` of a file. Wherever the parts begin and end, a run of
// kZeroRun zeros or more is noted at least in part.
void scan_for_damage(const std::byte* bytes, std::uint64_t begin, std::uint64_t end,
                     ScanResult* result);

// The errors in the arrays, which must all have been scanned: in file order, at most one of each
// kind per array. `file_bytes` is the size of the file.
std::vector<Error> find_damage(const std::byte* bytes, std::uint64_t file_bytes,
                               const std::vector<Array>& arrays,
                               const std::vector<ScanResult>& results);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_DAMAGE_H_
