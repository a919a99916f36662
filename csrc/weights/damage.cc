#include "weights/damage.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "weights/bytes.h"
#include "weights/damage_kernels.h"

namespace yolotf {
namespace {

constexpr std::uint64_t kFewFilters = 4;  // all of them may well be dead
constexpr std::uint64_t kSampleFloats = 16;
constexpr int kMostSamples = 8;  // of a block: more are a pattern

bool is_zero(std::uint32_t bits) noexcept { return (bits & kInfinityBits) == 0; }

bool is_huge(std::uint32_t bits) noexcept {
  return (bits & kMagnitudeBits) >= kHugeBits && (bits & kMagnitudeBits) < kInfinityBits;
}

bool is_nonfinite(std::uint32_t bits) noexcept { return (bits & kMagnitudeBits) >= kInfinityBits; }

bool is_negative(std::uint32_t bits) noexcept {
  return bits > 0x80000000U && !is_zero(bits) && !is_nonfinite(bits);
}

// Independent lanes, for instruction-level parallelism.
std::uint64_t hash_of(const std::byte* bytes) noexcept {
  constexpr std::uint64_t kFactor = 0x9fb21c651e98df25ULL;
  constexpr int kLanes = 4;
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

std::uint64_t find_portable(const std::byte* bytes, std::uint64_t count) noexcept {
  std::uint64_t found = 0;
  for (std::uint64_t i = 0; i < count; ++i, bytes += kBlockBytes) {
    // Without branches, so that compilers vectorize the loop.
    std::uint32_t largest = 0;
    std::uint32_t product = 0;
    for (std::uint64_t j = 0; j < kBlock; ++j) {
      const auto bits = load<std::uint32_t>(bytes + kFloatBytes * j);
      largest = std::max(largest, bits & kMagnitudeBits);
      product = std::max(product, bits * kSampleFactor);
    }
    const bool notable = largest >= kHugeBits || is_zero(largest) || product >= kSampleMark;
    found |= static_cast<std::uint64_t>(notable) << i;
  }
  return found;
}

Block describe_portable(const std::byte* bytes) noexcept {
  Block block;
  std::uint32_t largest = 0;
  for (std::uint64_t j = 0; j < kBlock; ++j) {
    const auto bits = load<std::uint32_t>(bytes + kFloatBytes * j);
    largest = std::max(largest, bits & kMagnitudeBits);
    block.samples |= static_cast<std::uint64_t>(bits * kSampleFactor >= kSampleMark) << j;
  }
  block.huge = largest >= kHugeBits;
  block.zeros = is_zero(largest);
  return block;
}

void add_run(std::vector<ScanResult::Run>* runs, std::uint64_t begin, std::uint64_t end) {
  if (!runs->empty() && runs->back().end == begin) {
    runs->back().end = end;
  } else {
    runs->push_back({begin, end});
  }
}

// Sorted, with adjacent runs joined.
std::vector<ScanResult::Run> joined(const std::vector<ScanResult>& results,
                                    std::vector<ScanResult::Run> ScanResult::* field) {
  std::vector<ScanResult::Run> all;
  for (const ScanResult& result : results) {
    all.insert(all.end(), (result.*field).begin(), (result.*field).end());
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<ScanResult::Run> runs;
  for (const ScanResult::Run& run : all) {
    add_run(&runs, run.begin, run.end);
  }
  return runs;
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

  bool zero(std::uint64_t begin, std::uint64_t end) const noexcept {
    for (; begin < end; begin += kFloatBytes) {
      if (!is_zero(bits(begin))) {
        return false;
      }
    }
    return true;
  }

  bool zero(const Array& array) const noexcept { return zero(array.offset, array.end()); }

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

  // Reports the range from the first to the last number of `array` that is `bad`.
  template <typename Bad>
  void find_numbers(Code code, const Array& array, const Bad& bad) {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
    std::uint64_t count = 0;
    for (std::uint64_t offset = array.offset; offset < array.end(); offset += kFloatBytes) {
      if (bad(bits(offset))) {
        first = count == 0 ? offset : first;
        end = offset + kFloatBytes;
        ++count;
      }
    }
    if (count != 0) {
      add(code, array, first, end, 0, count);
    }
  }

  void find_huge() {
    const std::vector<ScanResult::Run> runs = joined(results_, &ScanResult::huge);
    auto run = runs.begin();
    for (const Array& array : arrays_) {
      while (run != runs.end() && run->end <= array.offset) {
        ++run;
      }
      if (run != runs.end() && run->begin < array.end()) {
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

  // The moving variance of a kernel's layer, which precedes the kernel, or follows it in a dense
  // layer. Null if there is none.
  const Array* variance_of(std::size_t kernel) const noexcept {
    const std::uint64_t filters = arrays_[kernel].count / arrays_[kernel].filter;
    const auto fits = [&](std::size_t index) {
      return index >= 2 && index < arrays_.size() && arrays_[index].count == filters &&
             arrays_[index].role == Role::kMovingVariance &&
             arrays_[index - 2].role == Role::kGamma && arrays_[index - 2].count == filters;
    };
    if (kernel > 0 && fits(kernel - 1) && arrays_[kernel - 1].end() == arrays_[kernel].offset) {
      return &arrays_[kernel - 1];
    }
    return fits(kernel + 3) ? &arrays_[kernel + 3] : nullptr;
  }

  void find_zeros() {
    zeros_ = joined(results_, &ScanResult::zeros);
    bool any_other = false;
    bool any_kernel = false;
    for (const Array& array : arrays_) {
      const bool all_zero = zero(array);
      any_other = any_other || !all_zero;
      any_kernel = any_kernel || (!all_zero && is_kernel(array));
      if (any_other && any_kernel) {
        break;
      }
    }
    if (!any_other) {
      return;
    }
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      const Array& array = arrays_[i];
      if (array.role == Role::kGamma && array.count >= kFewFilters && i + 2 < arrays_.size() &&
          arrays_[i + 2].role == Role::kMovingVariance && arrays_[i + 2].count == array.count &&
          zero(array) && zero(arrays_[i + 2])) {
        add_zeros(array, array.offset, zero(arrays_[i + 1]) ? arrays_[i + 2].end() : array.end());
      } else if (is_kernel(array)) {
        find_zeros_in_kernel(i, any_kernel);
      }
    }
  }

  static bool is_kernel(const Array& array) noexcept {
    return array.role == Role::kKernel || array.role == Role::kWeights;
  }

  void find_zeros_in_kernel(std::size_t index, bool any_kernel) {
    const Array& array = arrays_[index];
    // Runs are sorted like the arrays, so each is examined once.
    while (zero_ < zeros_.size() && zeros_[zero_].end <= array.offset) {
      ++zero_;
    }
    std::uint64_t done = array.offset;
    for (std::size_t i = zero_; i < zeros_.size() && zeros_[i].begin < array.end(); ++i) {
      std::uint64_t begin = std::max(array.offset, zeros_[i].begin);
      std::uint64_t end = std::min(array.end(), zeros_[i].end);
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
      if (missing(index, begin, end, any_kernel)) {
        add_zeros(array, begin, end);
      }
    }
    if (array.end() == file_bytes_ && done != array.end()) {
      std::uint64_t begin = array.end();
      while (begin > array.offset && is_zero(bits(begin - kFloatBytes))) {
        begin -= kFloatBytes;
      }
      if (missing(index, begin, array.end(), any_kernel)) {
        add_zeros(array, begin, array.end());
      }
    }
  }

  // Whether a run of zeros in a kernel is damage, by the rules of damage.h.
  bool missing(std::size_t index, std::uint64_t begin, std::uint64_t end,
               bool any_kernel) noexcept {
    const Array& array = arrays_[index];
    const std::uint64_t floats = (end - begin) / kFloatBytes;
    const std::uint64_t first = (begin - array.offset) / kFloatBytes;
    const std::uint64_t last = (end - array.offset) / kFloatBytes;
    const bool whole = floats == array.count;
    const bool at_end = end == file_bytes_;
    if (first % array.filter != 0 || last % array.filter != 0) {
      return floats >= (at_end ? kZeroTail : kZeroRun) && !pruned(index, floats);
    }
    const Array* variance = variance_of(index);
    if (variance != nullptr) {
      const Array& gamma = variance[-2];
      std::uint64_t live = 0;
      for (std::uint64_t filter = first / array.filter; filter < last / array.filter; ++filter) {
        const std::uint64_t place = kFloatBytes * filter;
        const bool dead =
            is_zero(bits(variance->offset + place)) || is_zero(bits(gamma.offset + place));
        live += dead ? 0U : array.filter;
      }
      return live >= kZeroRun && (whole ? any_kernel : !pruned(index, floats));
    }
    return !whole && floats >= (at_end ? kZeroRun : kDeadRun) && !pruned(index, floats);
  }

  // Whether more than half of the numbers outside a run of `floats` zeros are zero.
  bool pruned(std::size_t index, std::uint64_t floats) noexcept {
    const Array& array = arrays_[index];
    if (counted_ != index) {
      counted_ = index;
      zeros_counted_ = 0;
      for (std::uint64_t offset = array.offset; offset < array.end(); offset += kFloatBytes) {
        zeros_counted_ += is_zero(bits(offset)) ? 1U : 0U;
      }
    }
    return 2 * (zeros_counted_ - floats) > array.count - floats;
  }

  void add_zeros(const Array& array, std::uint64_t begin, std::uint64_t end) {
    if (!errors_.empty() && errors_.back().code == Code::kZeros && errors_.back().end <= begin &&
        zero(errors_.back().end, begin)) {
      errors_.back().end = end;  // the same hole
    } else if (errors_.empty() || errors_.back().code != Code::kZeros ||
               errors_.back().segment != array.segment) {
      add(Code::kZeros, array, begin, end);
    }
  }

  // The samples that may equal another one, sorted. Almost none do; a table with two bits per hash,
  // which fits into a cache, rules out the others.
  std::vector<ScanResult::Sample> repeated_samples() const {
    // Samples of a part are sorted, and parts do not overlap, but may have been scanned twice.
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

  // Looks up every sample among the earlier ones and compares blocks with equal hashes.
  void find_repeated() {
    const std::vector<ScanResult::Sample> samples = repeated_samples();
    std::size_t size = 64;
    while (size < 2 * samples.size()) {
      size *= 2;
    }
    struct Entry {
      std::uint64_t hash;
      std::uint64_t offset;  // of the latest sample; 0 (inside the header) if the entry is free
      bool pattern;          // it has occurred twice within less than a block
    };
    std::vector<Entry> table(size, Entry{0, 0, false});
    std::uint64_t past = 0;                                 // end of the last repeated block
    std::uint64_t budget = 4 * file_bytes_ + kRepeatBytes;  // bytes to compare
    for (const ScanResult::Sample& sample : samples) {
      std::size_t place = static_cast<std::size_t>(sample.hash >> 7) & (size - 1);
      for (int probes = 0; probes < 64 && table[place].offset != 0; ++probes) {
        if (table[place].hash == sample.hash) {
          break;
        }
        place = (place + 1) & (size - 1);
      }
      Entry& entry = table[place];
      if (entry.offset == 0 || entry.hash != sample.hash) {
        entry = {sample.hash, sample.offset, false};
        continue;
      }
      const std::uint64_t before = entry.offset;
      entry.offset = sample.offset;
      entry.pattern = entry.pattern || sample.offset - before < kRepeatBytes;
      if (!entry.pattern && sample.offset >= past && budget != 0) {
        compare(before, sample.offset, &past, &budget);
      }
    }
  }

  // The bounds of the adjacent arrays around an offset.
  ScanResult::Run around(std::uint64_t offset) const noexcept {
    auto array =
        std::upper_bound(arrays_.begin(), arrays_.end(), offset,
                         [](std::uint64_t value, const Array& one) { return value < one.offset; });
    if (array == arrays_.begin()) {
      return {offset, offset};
    }
    auto first = std::prev(array);
    auto last = first;
    while (first != arrays_.begin() && std::prev(first)->end() == first->offset) {
      --first;
    }
    while (std::next(last) != arrays_.end() && last->end() == std::next(last)->offset) {
      ++last;
    }
    return {first->offset, last->end()};
  }

  void compare(std::uint64_t before, std::uint64_t after, std::uint64_t* past,
               std::uint64_t* budget) {
    const ScanResult::Run left = around(before);
    const ScanResult::Run right = around(after);
    const std::uint64_t distance = after - before;
    std::uint64_t begin = after;
    while (begin > right.begin && begin - distance > left.begin &&
           bits(begin - kFloatBytes) == bits(begin - kFloatBytes - distance)) {
      begin -= kFloatBytes;
    }
    std::uint64_t end = after;
    while (end < right.end && end - distance < left.end && bits(end) == bits(end - distance)) {
      end += kFloatBytes;
    }
    *budget -= std::min(*budget, end - begin + kFloatBytes);
    end = std::min(end, begin + distance);  // must not overlap its source
    if (end - begin < kRepeatBytes || uniform(begin, end)) {
      return;
    }
    *past = end;
    const auto array =
        std::upper_bound(arrays_.begin(), arrays_.end(), begin,
                         [](std::uint64_t value, const Array& one) { return value < one.offset; });
    add(Code::kRepeated, *std::prev(array), begin, end, begin - distance, end - distance);
  }

  // Whether the block is almost all zeros, as between the few numbers of a pruned kernel.
  bool uniform(std::uint64_t begin, std::uint64_t end) const noexcept {
    std::uint64_t others = 0;
    for (std::uint64_t offset = begin; offset < end; offset += kFloatBytes) {
      others += is_zero(bits(offset)) ? 0U : 1U;
    }
    return kFloatBytes * others < kRepeatBytes / 4;
  }

  const std::byte* bytes_;
  const std::uint64_t file_bytes_;
  const std::vector<Array>& arrays_;
  const std::vector<ScanResult>& results_;
  std::vector<ScanResult::Run> zeros_;
  std::size_t zero_ = 0;
  std::size_t counted_ = ~std::size_t{0};
  std::uint64_t zeros_counted_ = 0;
  std::vector<Error> errors_;
};

}  // namespace

std::vector<Array> arrays_of(const std::vector<Segment>& segments) {
  std::vector<Array> all;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const SegmentArrays found = arrays_in(segments[i], static_cast<std::int64_t>(i));
    all.insert(all.end(), found.begin(), found.end());
  }
  // Of arrays with the same floats, a variance comes first: more rules apply to it.
  const auto place = [](const Array& array) {
    return std::make_tuple(array.offset, array.count, array.role != Role::kMovingVariance,
                           array.segment);
  };
  std::sort(all.begin(), all.end(),
            [&](const Array& a, const Array& b) { return place(a) < place(b); });
  std::vector<Array> arrays;
  for (const Array& array : all) {
    if (arrays.empty() || arrays.back().end() <= array.offset) {
      arrays.push_back(array);
    }
  }
  return arrays;
}

ScanKernels portable_scan() noexcept { return {find_portable, describe_portable}; }

void scan_for_damage(const std::byte* bytes, std::uint64_t begin, std::uint64_t end,
                     ScanResult* result) {
  static const ScanKernels kernels = avx2_scan().find != nullptr ? avx2_scan() : portable_scan();
  const auto note = [&](const Block& block, std::uint64_t offset) {
    const std::uint64_t block_end = std::min(end, offset + kBlockBytes);
    if (block.huge) {
      add_run(&result->huge, offset, block_end);
    }
    if (block.zeros) {
      add_run(&result->zeros, offset, block_end);
    }
    if (__builtin_popcountll(block.samples) <= kMostSamples) {
      for (std::uint64_t left = block.samples; left != 0; left &= left - 1) {
        const std::uint64_t at =
            offset + kFloatBytes * static_cast<std::uint64_t>(__builtin_ctzll(left));
        if (at + kFloatBytes * kSampleFloats <= end) {
          result->samples.push_back({at, hash_of(bytes + at)});
        }
      }
    }
  };
  std::uint64_t offset = begin;
  while (end - offset >= kBlockBytes) {
    const std::uint64_t count = std::min(kRunBlocks, (end - offset) / kBlockBytes);
    for (std::uint64_t left = kernels.find(bytes + offset, count); left != 0; left &= left - 1) {
      const std::uint64_t at =
          offset + kBlockBytes * static_cast<std::uint64_t>(__builtin_ctzll(left));
      note(kernels.describe(bytes + at), at);
    }
    offset += kBlockBytes * count;
  }
  if (offset < end) {
    // The last block is padded with one of its numbers.
    std::uint32_t last[kBlock];
    std::fill(last, last + kBlock, load<std::uint32_t>(bytes + offset));
    std::memcpy(last, bytes + offset, end - offset);
    note(kernels.describe(reinterpret_cast<const std::byte*>(last)), offset);
  }
}

std::vector<Error> find_damage(const std::byte* bytes, std::uint64_t file_bytes,
                               const std::vector<Array>& arrays,
                               const std::vector<ScanResult>& results) {
  return DamageFinder(bytes, file_bytes, arrays, results).errors();
}

}  // namespace yolotf
