// Writes the floats of a file into variables: changes the order of axes, rounds to 16 bits, folds
// batch normalizations. There is a source file for each instruction set. Nothing is checked here:
// segments and targets must have passed check_segments and check_target.
#ifndef YOLOTF_CSRC_WEIGHTS_SCATTER_H_
#define YOLOTF_CSRC_WEIGHTS_SCATTER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "weights/bytes.h"
#include "weights/plan.h"

namespace yolotf {

// A part of a segment. Tasks can run in any order and at the same time.
struct Task {
  std::uint32_t segment;
  std::uint64_t block;
  std::uint64_t begin;  // in floats for a copy, in filters for a transpose
  std::uint64_t end;
};

// The bytes of the file that a task reads, except those of a folded batch normalization.
ByteRange source_range(const Segment& segment, const Task& task) noexcept;

// Splits segments into tasks of about 100 KB to 1 MB.
std::vector<Task> split_into_tasks(const std::vector<Segment>& segments);

// Writes one task of `segment` from the file's bytes into the target's memory.
void scatter(const std::byte* bytes, const Segment& segment, const Target& target,
             const Task& task) noexcept;

// The instruction set that scatter uses on this machine: "avx2" or "portable".
const char* scatter_isa() noexcept;

// For tests: true makes scatter use the portable code, false the best that the processor has.
void force_portable(bool portable) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_SCATTER_H_
