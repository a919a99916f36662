#include "weights/scatter.h"

#include <algorithm>
#include <atomic>

#include "weights/scatter_kernels.h"

namespace yolotf {
namespace {

constexpr std::uint64_t kCopyFloats = 64 * 1024;

// Whether the floats have the same order in the file and in the variable.
bool keeps_order(const Segment& segment) noexcept {
  return segment.filters == 1 ? segment.spatial == 1 || segment.channels == 1
                              : segment.channels == 1 && segment.spatial == 1;
}

bool scales_kernel(const Segment& segment) noexcept {
  return segment.norm_offset != 0 && segment.role == Role::kKernel;
}

// Whether tasks are ranges of floats, possibly across blocks; otherwise ranges of filters of a
// block.
bool splits_by_floats(const Segment& segment) noexcept {
  return keeps_order(segment) && (segment.filters == 1 || !scales_kernel(segment));
}

std::atomic<bool>& use_avx2() noexcept {
  static std::atomic<bool> use{avx2_transpose(Dtype::kFloat32, false) != nullptr};
  return use;
}

}  // namespace

std::vector<Task> split_into_tasks(const std::vector<Segment>& segments) {
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const bool by_floats = splits_by_floats(segment);
    const std::uint64_t columns = segment.channels * segment.spatial;
    const std::uint64_t blocks = by_floats ? 1 : segment.blocks;
    const std::uint64_t end = by_floats ? segment.count() : segment.filters;
    constexpr std::uint64_t kFilters = kPanels * kPanel;
    const std::uint64_t step =
        by_floats ? kCopyFloats
                  : kFilters * std::max<std::uint64_t>(1, kCopyFloats / (kFilters * columns));
    for (std::uint64_t block = 0; block < blocks; ++block) {
      for (std::uint64_t begin = 0; begin < end; begin += step) {
        tasks.push_back({static_cast<std::uint32_t>(i), block, begin, std::min(end, begin + step)});
      }
    }
  }
  return tasks;
}

ByteRange source_range(const Segment& segment, const Task& task) noexcept {
  const std::uint64_t unit = splits_by_floats(segment) ? 1 : segment.channels * segment.spatial;
  const std::uint64_t block_begin = task.block * (segment.count() / segment.blocks);
  return {segment.offset + kFloatBytes * (block_begin + task.begin * unit),
          segment.offset + kFloatBytes * (block_begin + task.end * unit)};
}

void scatter(const std::byte* bytes, const Segment& segment, const Target& target,
             const Task& task) noexcept {
  const std::uint64_t block_begin = task.block * (segment.count() / segment.blocks);
  const std::byte* source = bytes + segment.offset + kFloatBytes * block_begin;
  const Fold fold(bytes, segment, task.block);
  const bool folds = static_cast<bool>(fold);
  void* destination =
      static_cast<std::byte*>(target.data) + element_bytes(target.dtype) * block_begin;
  if (folds && segment.role != Role::kKernel) {
    fold_vector(source, segment, fold, target.dtype, destination, task.begin, task.end);
  } else if (splits_by_floats(segment)) {
    if (folds) {
      scale_portable(source, segment, fold, target.dtype, destination, task.begin, task.end);
    } else {
      copy_portable(source, target.dtype, destination, task.begin, task.end);
    }
  } else {
    const bool avx2 = use_avx2().load(std::memory_order_relaxed);
    const Transpose transpose =
        avx2 ? avx2_transpose(target.dtype, folds) : portable_transpose(target.dtype, folds);
    if (transpose != nullptr) {
      transpose(source, segment, fold, destination, task.begin, task.end);
    }
  }
}

const char* scatter_isa() noexcept { return use_avx2().load() ? "avx2" : "portable"; }

void force_portable(bool portable) noexcept {
  use_avx2().store(!portable && avx2_transpose(Dtype::kFloat32, false) != nullptr);
}

}  // namespace yolotf
