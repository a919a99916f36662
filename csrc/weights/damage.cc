#include "weights/damage.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "weights/bytes.h"
#include "weights/damage_kernels.h"

namespace yolotf {
namespace {

constexpr std::uint64_t kFewFilters = 4;  // fewer may all be dead
constexpr std::uint64_t kSampleFloats = 16;
constexpr int kMostSamples = 8;  // of a block; a block with more is a pattern

bool is_zero(std::uint32_t bits) noexcept { return (bits & kInfinityBits) == 0; }

bool is_huge(std::uint32_t bits) noexcept {
  return (bits & kMagnitudeBits) >= kHugeBits && (bits & kMagnitudeBits) < kInfinityBits;
}

bool is_nonfinite(std::uint32_t bits) noexcept { return (bits & kMagnitudeBits) >= kInfinityBits; }

bool is_negative(std::uint32_t bits) noexcept {
  return bits > 0x80000000U && !is_zero(bits) && !is_nonfinite(bits);
}

// Hashes the kSampleFloats floats at `bytes`.
std::uint64_t hash_of(const std::byte* bytes) noexcept {
  constexpr std::uint64_t kFactor = 0x9fb21c651e98df25ULL;
  constexpr int kLanes = 4;  // independent, for instruction-level parallelism
  std::uint64_t lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    lanes[i] = load<std::uint64_t>(bytes + 8 * i) * kFactor;
    lanes[i] = (lanes[i] ^ (lanes[i] >> 35) ^ load<std::uint64_t>(bytes + 32 + 8 * i)) * kFactor;
  }
  std::uint64_t hash = 0;
  for (const std::uint64_t lane : lanes) {
    hash = (hash ^ lane) * kFactor;
    hash ^= hash >> 35;
  }
  return hash;
}

std::uint64_t find_notable_portable(const std::byte* bytes, std::uint64_t count) noexcept {
  std::uint64_t notable_blocks = 0;
  for (std::uint64_t i = 0; i < count; ++i, bytes += kBlockBytes) {
    // Without branches, so that compilers vectorize the loop.
    std::uint32_t largest = 0;
    std::uint32_t product = 0;
    for (std::uint64_t j = 0; j < kBlockFloats; ++j) {
      const auto bits = load<std::uint32_t>(bytes + kFloatBytes * j);
      largest = std::max(largest, bits & kMagnitudeBits);
      product = std::max(product, bits * kSampleFactor);
    }
    const bool notable = largest >= kHugeBits || is_zero(largest) || product >= kSampleThreshold;
    notable_blocks |= static_cast<std::uint64_t>(notable) << i;
  }
  return notable_blocks;
}

BlockSummary summarize_portable(const std::byte* bytes) noexcept {
  BlockSummary block;
  std::uint32_t largest = 0;
  for (std::uint64_t j = 0; j < kBlockFloats; ++j) {
    const auto bits = load<std::uint32_t>(bytes + kFloatBytes * j);
    largest = std::max(largest, bits & kMagnitudeBits);
    block.samples |= static_cast<std::uint64_t>(bits * kSampleFactor >= kSampleThreshold) << j;
  }
  block.huge = largest >= kHugeBits;
  block.zeros = is_zero(largest);
  return block;
}

void add_range(std::vector<ByteRange>* ranges, std::uint64_t begin, std::uint64_t end) {
  if (!ranges->empty() && ranges->back().end == begin) {
    ranges->back().end = end;
  } else {
    ranges->push_back({begin, end});
  }
}

// Returns the ranges of all results, sorted, with adjacent ones merged.
std::vector<ByteRange> merged(const std::vector<ScanResult>& results,
                              std::vector<ByteRange> ScanResult::* field) {
  std::vector<ByteRange> all;
  for (const ScanResult& result : results) {
    all.insert(all.end(), (result.*field).begin(), (result.*field).end());
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<ByteRange> ranges;
  for (const ByteRange& range : all) {
    add_range(&ranges, range.begin, range.end);
  }
  return ranges;
}

class DamageFinder {
 public:
  DamageFinder(const std::byte* bytes, std::uint64_t file_bytes, const std::vector<Array>& arrays,
               const std::vector<ScanResult>& results)
      : bytes_(bytes), file_bytes_(file_bytes), arrays_(arrays), results_(results) {}

  std::vector<Error> errors() {
    find_huge();
    find_negative();
    find_zeros();
    find_repeated();
    std::sort(errors_.begin(), errors_.end(), [](const Error& a, const Error& b) {
      return std::tie(a.offset, a.code) < std::tie(b.offset, b.code);
    });
    return std::move(errors_);
  }

 private:
  std::uint32_t bits(std::uint64_t offset) const noexcept {
    return load<std::uint32_t>(bytes_ + offset);
  }

  bool all_zero(std::uint64_t begin, std::uint64_t end) const noexcept {
    for (; begin < end; begin += kFloatBytes) {
      if (!is_zero(bits(begin))) {
        return false;
      }
    }
    return true;
  }

  bool all_zero(const Array& array) const noexcept { return all_zero(array.offset, array.end()); }

  void add(Code code, const Array& array, std::uint64_t begin, std::uint64_t end,
           std::uint64_t expected = 0, std::uint64_t found = 0) {
    Error error;
    error.code = code;
    error.segment = array.segment;
    error.role = static_cast<std::int64_t>(array.role);
    error.offset = begin;
    error.end = end;
    error.expected = expected;
    error.found = found;
    errors_.push_back(error);
  }

  // Adds an error if `is_bad` is true for any float of `array`.
  template <typename Predicate>
  void find_numbers(Code code, const Array& array, const Predicate& is_bad) {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t count = 0;
    for (std::uint64_t offset = array.offset; offset < array.end(); offset += kFloatBytes) {
      if (is_bad(bits(offset))) {
        begin = count == 0 ? offset : begin;
        end = offset + kFloatBytes;
        ++count;
      }
    }
    if (count != 0) {
      add(code, array, begin, end, 0, count);
    }
  }

  void find_huge() {
    const std::vector<ByteRange> ranges = merged(results_, &ScanResult::huge_ranges);
    auto range = ranges.begin();
    for (const Array& array : arrays_) {
      while (range != ranges.end() && range->end <= array.offset) {
        ++range;
      }
      if (range != ranges.end() && range->begin < array.end()) {
        find_numbers(Code::kNonfinite, array, is_nonfinite);
        find_numbers(Code::kHuge, array, is_huge);
      }
    }
  }

  void find_negative() {
    for (const Array& array : arrays_) {
      if (array.role == Role::kMovingVariance) {
        find_numbers(Code::kNegativeVariance, array, is_negative);
      }
    }
  }

  // Returns the moving variance of a kernel's layer: before the kernel, or after it in a dense
  // layer. Null without batch normalization.
  const Array* variance_of(std::size_t kernel) const noexcept {
    const std::uint64_t filters = arrays_[kernel].count / arrays_[kernel].filter_floats;
    const auto is_variance = [&](std::size_t index) {
      return index >= 2 && index < arrays_.size() && arrays_[index].count == filters &&
             arrays_[index].role == Role::kMovingVariance &&
             arrays_[index - 2].role == Role::kGamma && arrays_[index - 2].count == filters;
    };
    if (kernel > 0 && is_variance(kernel - 1) &&
        arrays_[kernel - 1].end() == arrays_[kernel].offset) {
      return &arrays_[kernel - 1];
    }
    return is_variance(kernel + 3) ? &arrays_[kernel + 3] : nullptr;
  }

  void find_zeros() {
    zero_ranges_ = merged(results_, &ScanResult::zero_ranges);
    bool any_nonzero = false;
    bool any_nonzero_kernel = false;
    for (const Array& array : arrays_) {
      const bool nonzero = !all_zero(array);
      any_nonzero = any_nonzero || nonzero;
      any_nonzero_kernel = any_nonzero_kernel || (nonzero && is_kernel(array));
      if (any_nonzero && any_nonzero_kernel) {
        break;
      }
    }
    if (!any_nonzero) {
      return;
    }
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      const Array& array = arrays_[i];
      if (array.role == Role::kGamma && array.count >= kFewFilters && i + 2 < arrays_.size() &&
          arrays_[i + 2].role == Role::kMovingVariance && arrays_[i + 2].count == array.count &&
          all_zero(array) && all_zero(arrays_[i + 2])) {
        add_zeros(array, array.offset,
                  all_zero(arrays_[i + 1]) ? arrays_[i + 2].end() : array.end());
      } else if (is_kernel(array)) {
        find_zeros_in_kernel(i, any_nonzero_kernel);
      }
    }
  }

  static bool is_kernel(const Array& array) noexcept {
    return array.role == Role::kKernel || array.role == Role::kWeights;
  }

  void find_zeros_in_kernel(std::size_t index, bool any_nonzero_kernel) {
    const Array& array = arrays_[index];
    // Ranges are sorted like the arrays, so each is examined once.
    while (next_zeros_ < zero_ranges_.size() && zero_ranges_[next_zeros_].end <= array.offset) {
      ++next_zeros_;
    }
    std::uint64_t done = array.offset;
    for (std::size_t i = next_zeros_;
         i < zero_ranges_.size() && zero_ranges_[i].begin < array.end(); ++i) {
      std::uint64_t begin = std::max(array.offset, zero_ranges_[i].begin);
      std::uint64_t end = std::min(array.end(), zero_ranges_[i].end);
      if (begin < done) {
        continue;
      }
      while (begin > done && is_zero(bits(begin - kFloatBytes))) {
        begin -= kFloatBytes;
      }
      while (end < array.end() && is_zero(bits(end))) {
        end += kFloatBytes;
      }
      done = end;
      if (is_damage(index, begin, end, any_nonzero_kernel)) {
        add_zeros(array, begin, end);
      }
    }
    if (array.end() == file_bytes_ && done != array.end()) {
      std::uint64_t begin = array.end();
      while (begin > array.offset && is_zero(bits(begin - kFloatBytes))) {
        begin -= kFloatBytes;
      }
      if (is_damage(index, begin, array.end(), any_nonzero_kernel)) {
        add_zeros(array, begin, array.end());
      }
    }
  }

  // Whether a run of zeros in a kernel is damage, by the rules of damage.h.
  bool is_damage(std::size_t index, std::uint64_t begin, std::uint64_t end,
                 bool any_nonzero_kernel) noexcept {
    const Array& array = arrays_[index];
    const std::uint64_t floats = (end - begin) / kFloatBytes;
    const std::uint64_t first = (begin - array.offset) / kFloatBytes;
    const std::uint64_t last = (end - array.offset) / kFloatBytes;
    const bool whole = floats == array.count;
    const bool at_end = end == file_bytes_;
    if (first % array.filter_floats != 0 || last % array.filter_floats != 0) {
      return floats >= (at_end ? kZeroTail : kZeroRun) && !pruned(index, floats);
    }
    const Array* variance = variance_of(index);
    if (variance != nullptr) {
      const Array& gamma = variance[-2];
      std::uint64_t live_zeros = 0;  // in filters that are not dead
      for (std::uint64_t filter = first / array.filter_floats; filter < last / array.filter_floats;
           ++filter) {
        const std::uint64_t relative = kFloatBytes * filter;
        const bool dead =
            is_zero(bits(variance->offset + relative)) || is_zero(bits(gamma.offset + relative));
        live_zeros += dead ? 0U : array.filter_floats;
      }
      return live_zeros >= kZeroRun && (whole ? any_nonzero_kernel : !pruned(index, floats));
    }
    return !whole && floats >= (at_end ? kZeroRun : kDeadRun) && !pruned(index, floats);
  }

  // Whether more than half of the numbers outside a run of `run_floats` zeros are zero.
  bool pruned(std::size_t index, std::uint64_t run_floats) noexcept {
    const Array& array = arrays_[index];
    if (counted_array_ != index) {
      counted_array_ = index;
      zeros_counted_ = 0;
      for (std::uint64_t offset = array.offset; offset < array.end(); offset += kFloatBytes) {
        zeros_counted_ += is_zero(bits(offset)) ? 1U : 0U;
      }
    }
    return 2 * (zeros_counted_ - run_floats) > array.count - run_floats;
  }

  void add_zeros(const Array& array, std::uint64_t begin, std::uint64_t end) {
    if (!errors_.empty() && errors_.back().code == Code::kZeros && errors_.back().end <= begin &&
        all_zero(errors_.back().end, begin)) {
      errors_.back().end = end;  // the hole goes on
    } else if (errors_.empty() || errors_.back().code != Code::kZeros ||
               errors_.back().segment != array.segment) {
      add(Code::kZeros, array, begin, end);
    }
  }

  // Returns the samples whose hash may occur more than once, sorted by offset. Almost none does: a
  // table with two bits per hash, small enough for a cache, excludes the others.
  std::vector<ScanResult::Sample> repeated_samples() const {
    // The samples of a part are sorted. Parts do not overlap, but one may have been scanned twice.
    std::vector<const ScanResult*> parts;
    std::size_t count = 0;
    for (const ScanResult& result : results_) {
      if (!result.samples.empty()) {
        parts.push_back(&result);
        count += result.samples.size();
      }
    }
    std::sort(parts.begin(), parts.end(), [](const ScanResult* a, const ScanResult* b) {
      return a->samples.front().offset < b->samples.front().offset;
    });
    const auto last = std::unique(parts.begin(), parts.end(), [](const auto* a, const auto* b) {
      return b->samples.front().offset <= a->samples.back().offset;
    });
    parts.erase(last, parts.end());
    std::size_t words = 64;
    while (4 * words < count) {
      words *= 2;
    }
    struct Seen {
      std::uint64_t once = 0;
      std::uint64_t again = 0;
    };
    std::vector<Seen> seen(words);
    const auto word_of = [&](std::uint64_t hash) -> Seen& {
      return seen[(hash >> 6) & (words - 1)];
    };
    const auto bit_of = [](std::uint64_t hash) { return std::uint64_t{1} << (hash & 63); };
    for (const ScanResult* part : parts) {
      for (const ScanResult::Sample& sample : part->samples) {
        Seen& word = word_of(sample.hash);
        word.again |= word.once & bit_of(sample.hash);
        word.once |= bit_of(sample.hash);
      }
    }
    std::vector<ScanResult::Sample> samples;
    for (const ScanResult* part : parts) {
      for (const ScanResult::Sample& sample : part->samples) {
        if ((word_of(sample.hash).again & bit_of(sample.hash)) != 0) {
          samples.push_back(sample);
        }
      }
    }
    return samples;
  }

  // Looks up the hash of every sample among the earlier ones, and compares the floats around equal
  // hashes.
  void find_repeated() {
    const std::vector<ScanResult::Sample> samples = repeated_samples();
    std::size_t size = 64;
    while (size < 2 * samples.size()) {
      size *= 2;
    }
    struct Entry {
      std::uint64_t hash;
      std::uint64_t offset;  // of the latest sample; 0 (inside the header) if the entry is free
      bool pattern;          // has occurred twice within less than kRepeatBytes
    };
    std::vector<Entry> table(size, Entry{0, 0, false});
    std::uint64_t last_end = 0;                             // of the last repeated block
    std::uint64_t budget = 4 * file_bytes_ + kRepeatBytes;  // bytes that may still be compared
    for (const ScanResult::Sample& sample : samples) {
      std::size_t slot = static_cast<std::size_t>(sample.hash >> 7) & (size - 1);
      for (int probes = 0; probes < 64 && table[slot].offset != 0; ++probes) {
        if (table[slot].hash == sample.hash) {
          break;
        }
        slot = (slot + 1) & (size - 1);
      }
      Entry& entry = table[slot];
      if (entry.offset == 0 || entry.hash != sample.hash) {
        entry = {sample.hash, sample.offset, false};
        continue;
      }
      const std::uint64_t earlier = entry.offset;
      entry.offset = sample.offset;
      entry.pattern = entry.pattern || sample.offset - earlier < kRepeatBytes;
      if (!entry.pattern && sample.offset >= last_end && budget != 0) {
        compare(earlier, sample.offset, &last_end, &budget);
      }
    }
  }

  // Returns the first array that begins after `offset`.
  std::vector<Array>::const_iterator array_after(std::uint64_t offset) const noexcept {
    return std::upper_bound(
        arrays_.begin(), arrays_.end(), offset,
        [](std::uint64_t value, const Array& array) { return value < array.offset; });
  }

  // Returns the range of the arrays around `offset` that have no gap between them.
  ByteRange contiguous_arrays(std::uint64_t offset) const noexcept {
    const auto after = array_after(offset);
    if (after == arrays_.begin()) {
      return {offset, offset};
    }
    auto first = std::prev(after);
    auto last = first;
    while (first != arrays_.begin() && std::prev(first)->end() == first->offset) {
      --first;
    }
    while (std::next(last) != arrays_.end() && last->end() == std::next(last)->offset) {
      ++last;
    }
    return {first->offset, last->end()};
  }

  // Extends the equal floats at `earlier` and `later` to both sides, and adds an error if they are
  // a repeated block.
  void compare(std::uint64_t earlier, std::uint64_t later, std::uint64_t* last_end,
               std::uint64_t* budget) {
    const ByteRange left = contiguous_arrays(earlier);
    const ByteRange right = contiguous_arrays(later);
    const std::uint64_t distance = later - earlier;
    std::uint64_t begin = later;
    while (begin > right.begin && begin - distance > left.begin &&
           bits(begin - kFloatBytes) == bits(begin - kFloatBytes - distance)) {
      begin -= kFloatBytes;
    }
    std::uint64_t end = later;
    while (end < right.end && end - distance < left.end && bits(end) == bits(end - distance)) {
      end += kFloatBytes;
    }
    *budget -= std::min(*budget, end - begin + kFloatBytes);
    end = std::min(end, begin + distance);  // must not overlap the earlier block
    if (end - begin < kRepeatBytes || almost_all_zero(begin, end)) {
      return;
    }
    *last_end = end;
    add(Code::kRepeated, *std::prev(array_after(begin)), begin, end, begin - distance,
        end - distance);
  }

  // Whether the floats that are not zero have fewer than kRepeatBytes / 4 bytes, as in a pruned
  // kernel.
  bool almost_all_zero(std::uint64_t begin, std::uint64_t end) const noexcept {
    std::uint64_t nonzero = 0;
    for (std::uint64_t offset = begin; offset < end; offset += kFloatBytes) {
      nonzero += is_zero(bits(offset)) ? 0U : 1U;
    }
    return kFloatBytes * nonzero < kRepeatBytes / 4;
  }

  const std::byte* bytes_;
  const std::uint64_t file_bytes_;
  const std::vector<Array>& arrays_;
  const std::vector<ScanResult>& results_;
  std::vector<ByteRange> zero_ranges_;
  std::size_t next_zeros_ = 0;                   // in zero_ranges_
  std::size_t counted_array_ = ~std::size_t{0};  // whose zeros are counted
  std::uint64_t zeros_counted_ = 0;
  std::vector<Error> errors_;
};

}  // namespace

std::vector<Array> sorted_arrays(const std::vector<Segment>& segments) {
  std::vector<Array> all;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const SegmentArrays arrays = arrays_of(segments[i], static_cast<std::int64_t>(i));
    all.insert(all.end(), arrays.begin(), arrays.end());
  }
  // Of arrays with the same floats, a variance comes first: more rules apply to it.
  const auto key = [](const Array& array) {
    return std::make_tuple(array.offset, array.count, array.role != Role::kMovingVariance,
                           array.segment);
  };
  std::sort(all.begin(), all.end(),
            [&](const Array& a, const Array& b) { return key(a) < key(b); });
  std::vector<Array> sorted;
  for (const Array& array : all) {
    if (sorted.empty() || sorted.back().end() <= array.offset) {
      sorted.push_back(array);
    }
  }
  return sorted;
}

ScanKernels portable_scan() noexcept { return {find_notable_portable, summarize_portable}; }

void scan_for_damage(const std::byte* bytes, std::uint64_t begin, std::uint64_t end,
                     ScanResult* result) {
  static const ScanKernels kernels =
      avx2_scan().find_notable != nullptr ? avx2_scan() : portable_scan();
  const auto record = [&](const BlockSummary& block, std::uint64_t offset) {
    const std::uint64_t block_end = std::min(end, offset + kBlockBytes);
    if (block.huge) {
      add_range(&result->huge_ranges, offset, block_end);
    }
    if (block.zeros) {
      add_range(&result->zero_ranges, offset, block_end);
    }
    if (__builtin_popcountll(block.samples) <= kMostSamples) {
      for (std::uint64_t bits = block.samples; bits != 0; bits &= bits - 1) {
        const std::uint64_t sample =
            offset + kFloatBytes * static_cast<std::uint64_t>(__builtin_ctzll(bits));
        if (sample + kFloatBytes * kSampleFloats <= end) {
          result->samples.push_back({sample, hash_of(bytes + sample)});
        }
      }
    }
  };
  std::uint64_t offset = begin;
  while (end - offset >= kBlockBytes) {
    const std::uint64_t count = std::min(kBatchBlocks, (end - offset) / kBlockBytes);
    for (std::uint64_t bits = kernels.find_notable(bytes + offset, count); bits != 0;
         bits &= bits - 1) {
      const std::uint64_t block =
          offset + kBlockBytes * static_cast<std::uint64_t>(__builtin_ctzll(bits));
      record(kernels.summarize(bytes + block), block);
    }
    offset += kBlockBytes * count;
  }
  if (offset < end) {
    // The last block is padded with one of its numbers.
    std::uint32_t last[kBlockFloats];
    std::fill(last, last + kBlockFloats, load<std::uint32_t>(bytes + offset));
    std::memcpy(last, bytes + offset, end - offset);
    record(kernels.summarize(reinterpret_cast<const std::byte*>(last)), offset);
  }
}

std::vector<Error> find_damage(const std::byte* bytes, std::uint64_t file_bytes,
                               const std::vector<Array>& arrays,
                               const std::vector<ScanResult>& results) {
  return DamageFinder(bytes, file_bytes, arrays, results).errors();
}

}  // namespace yolotf
