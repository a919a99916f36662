// Damage that shows in the numbers of a file, whatever network it belongs to.
//
// The rules; subnormal numbers count as zeros, of whatever sign:
//
// * kNonfinite: NaN or infinity, in any array.
// * kHuge: a magnitude of 1e30 or more, in any array. Trained numbers end at some thousands, and a
//   turned highest bit of the exponent makes all but the smallest of them as large.
// * kNegativeVariance: a moving variance below zero.
// * kZeros: bytes that were never written. A file of nothing but zeros says nothing and passes.
//   Otherwise: a batch normalization whose gammas and variances are all zero (an untrained network
//   has zero variances, but gammas of 1); in a kernel, a run of kZeroRun zeros or more, kZeroTail
//   if it reaches the file's end. Where it begins and ends between two filters it may be filters
//   that have died, which they do whole: then only those count whose gamma and variance are not
//   zero, as a dead filter's are; a kernel without batch normalization may be zero throughout, and
//   in parts of less than kDeadRun, at the file's end kZeroRun. All kernels may be zero if
//   something else is not. No run counts in a kernel in which more than half of all other numbers
//   are zero: it has been pruned.
// * kRepeated: the same kRepeatBytes or more in two places that do not overlap, whole floats apart.
//   A block that repeats within itself (a constant, a pattern) is not meant.
//
// Looking has two steps: `look` reads every float once, in parts, by any number of threads, and
// notes places; `judge` looks again at these places only. No file is damaged in a way that makes
// either slow: both are linear in the file's size.
#ifndef YOLOTF_CSRC_CONTENT_H_
#define YOLOTF_CSRC_CONTENT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "error.h"
#include "plan.h"

namespace yolotf {

constexpr std::uint64_t kZeroRun = 1024;
constexpr std::uint64_t kZeroTail = 64;
constexpr std::uint64_t kDeadRun = 16 * 1024;
constexpr std::uint64_t kRepeatBytes = 64 * 1024;

// The arrays that checked segments take, each once and in the order of the file; those that
// overlap others are left out.
std::vector<Array> arrays_of(const std::vector<Segment>& segments);

// What look noted. Those of several threads are judged together.
struct Sighting {
  struct Run {
    std::uint64_t begin;
    std::uint64_t end;
  };
  struct Sample {
    std::uint64_t offset;
    std::uint64_t hash;
  };
  std::vector<Run> huge;   // bytes with NaN, infinity or 1e30 and more somewhere in them
  std::vector<Run> zeros;  // bytes with nothing but zeros
  std::vector<Sample> samples;
};

// Looks at the floats in bytes `begin` to `end` of a file. Runs of zeros of kZeroRun or more are
// noted at least in part, wherever parts begin and end.
void look(const std::byte* bytes, std::uint64_t begin, std::uint64_t end, Sighting* sighting);

// What is wrong with the arrays, all of which have been looked at; in the order of the file, at
// most one error of each kind an array. `file_bytes` tells what is the end of the file.
std::vector<Error> judge(const std::byte* bytes, std::uint64_t file_bytes,
                         const std::vector<Array>& arrays, const std::vector<Sighting>& sightings);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_CONTENT_H_
