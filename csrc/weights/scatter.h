// Writes the floats of a file into variables: changes the axis order, rounds to 16 bits, folds
// batch normalization. There is a source file for each instruction set. Nothing is checked here:
// segments and targets have passed the checks of plan.h.
#ifndef YOLOTF_CSRC_WEIGHTS_SCATTER_H_
#define YOLOTF_CSRC_WEIGHTS_SCATTER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "weights/plan.h"

namespace yolotf {

// A part of a segment that can be written independently of all others.
struct Task {
  std::uint32_t segment;
  std::uint64_t block;
  std::uint64_t begin;  // floats for a copy, filters for a transpose
  std::uint64_t end;
};

// The byte range [begin, end) of the file that a task reads, without that of a folded batch
// normalization.
struct Extent {
  std::uint64_t begin;
  std::uint64_t end;
};
Extent source_of(const Segment& segment, const Task& task) noexcept;

// Splits segments into tasks of about 100 KB to 1 MB.
std::vector<Task> split(const std::vector<Segment>& segments);

// Writes one task of `segment` from the file's bytes into the target's memory. No checks: both have
// passed check_segments and check_target. Tasks may run at the same time.
void scatter(const std::byte* bytes, const Segment& segment, const Target& target,
             const Task& task) noexcept;

// The instruction set that scatter uses on this machine: "avx2" or "portable".
const char* scatter_isa() noexcept;

// For tests: always use the portable code.
void force_portable(bool portable) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_SCATTER_H_
