// Moves the floats of a file into the memory of variables, one file an instruction set: changes the
// order of axes, rounds to 16 bits, folds batch normalization in. No checks: segments and targets
// have passed those of plan.h.
#ifndef YOLOTF_CSRC_SCATTER_H_
#define YOLOTF_CSRC_SCATTER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan.h"

namespace yolotf {

// A part of one segment that can be written independently of all others.
struct Task {
  std::uint32_t segment;
  std::uint64_t block;
  std::uint64_t begin;  // floats for a copy, filters for a transpose
  std::uint64_t end;
};

// The floats of the file that a task reads, those of a batch normalization aside: first byte and
// the byte behind the last.
struct Extent {
  std::uint64_t begin;
  std::uint64_t end;
};
Extent source_of(const Segment& segment, const Task& task) noexcept;

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

}  // namespace yolotf

#endif  // YOLOTF_CSRC_SCATTER_H_
