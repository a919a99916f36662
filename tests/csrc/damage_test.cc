#include "weights/damage.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <random>
#include <stdexcept>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "testing.h"
#include "weights/damage_kernels.h"

TEST_SUITE_BEGIN("damage");

namespace yolotf {
namespace {

// The file of some convolutions with batch normalization and a last one without, and its arrays.
class Sample {
 public:
  explicit Sample(std::initializer_list<std::uint64_t> filters = {32, 64, 64}) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0F, 0.1F);
    std::uint64_t channels = 16;
    floats.resize(5, 0.0F);
    const auto add = [&](Role role, std::uint64_t count, std::uint64_t filter) {
      arrays.push_back(
          {4 * floats.size(), count, filter, role, static_cast<std::int64_t>(arrays.size())});
      for (std::uint64_t i = 0; i < count; ++i) {
        const float value = normal(random);
        const bool positive = role == Role::kGamma || role == Role::kMovingVariance;
        floats.push_back(positive ? std::fabs(value) + 0.1F : value);
      }
    };
    for (const std::uint64_t count : filters) {
      for (const Role role :
           {Role::kBeta, Role::kGamma, Role::kMovingMean, Role::kMovingVariance}) {
        add(role, count, 1);
      }
      add(Role::kKernel, count * channels * 9, channels * 9);
      channels = count;
    }
    add(Role::kBias, 18, 1);
    add(Role::kKernel, 18 * channels, channels);
  }

  // Scans the file in parts of `part` floats and returns the damage.
  std::vector<Error> errors(std::uint64_t part = 1 << 18) const {
    const Bytes bytes(floats.data(), 4 * floats.size());
    std::vector<ScanResult> results;
    for (std::uint64_t begin = 20; begin < bytes.size(); begin += 4 * part) {
      results.emplace_back();
      scan_for_damage(bytes.data(), begin, std::min(bytes.size(), begin + 4 * part),
                      &results.back());
    }
    return find_damage(bytes.data(), bytes.size(), arrays, results);
  }

  Error only(Code code) const {
    Error first;
    for (const std::uint64_t part : {std::uint64_t{1} << 18, std::uint64_t{5000}}) {
      const std::vector<Error> part_errors = errors(part);
      REQUIRE(part_errors.size() == 1);
      REQUIRE(part_errors[0].code == code);
      first = part_errors[0];
    }
    return first;
  }

  const Array& array(std::size_t layer, Role role) const {
    for (std::size_t i = 5 * layer; i < arrays.size(); ++i) {
      if (arrays[i].role == role) {
        return arrays[i];
      }
    }
    throw std::runtime_error("no such array");
  }

  void fill(const Array& of, float value) { fill(of, 0, of.count, value); }
  void fill(const Array& of, std::uint64_t begin, std::uint64_t end, float value) {
    std::fill(floats.begin() + static_cast<std::ptrdiff_t>(of.offset / 4 + begin),
              floats.begin() + static_cast<std::ptrdiff_t>(of.offset / 4 + end), value);
  }

  std::vector<float> floats;
  std::vector<Array> arrays;
};

TEST_CASE("the weights of a trained network show no damage") {
  const Sample sample;
  for (const std::uint64_t part : {1U, 7U, 1000U, 1U << 18}) {
    REQUIRE(sample.errors(part).empty());
  }
}

TEST_CASE("non-finite numbers are found in every array") {
  for (std::size_t i = 0; i < Sample().arrays.size(); ++i) {
    for (const float value : {kNan, -kNan, kInfinity, -kInfinity, float_of(0x7f800001U)}) {
      Sample sample;
      const Array array = sample.arrays[i];
      sample.fill(array, 1, 2, value);
      sample.fill(array, array.count - 3, array.count - 1, value);
      const Error error = sample.only(Code::kNonfinite);
      REQUIRE(error.segment == static_cast<std::int64_t>(i));
      REQUIRE(error.found == 3);
      REQUIRE(error.role == static_cast<std::int64_t>(array.role));
      REQUIRE(error.offset == array.offset + 4);
      REQUIRE(error.end == array.end() - 4);
    }
  }
}

TEST_CASE("the bit pattern of the limit is that of the number") {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &kHugeNumber, sizeof bits);
  CHECK(bits == kHugeBits);
}

TEST_CASE("huge numbers are found in every array") {
  for (std::size_t i = 0; i < Sample().arrays.size(); ++i) {
    for (const float value : {kHugeNumber, -kHugeNumber, 3.4e38F}) {
      Sample sample;
      const Array array = sample.arrays[i];
      const bool negative = array.role == Role::kMovingVariance;
      sample.fill(array, 1, 2, negative ? std::fabs(value) : value);
      const Error error = sample.only(Code::kHuge);
      REQUIRE(error.segment == static_cast<std::int64_t>(i));
      REQUIRE(error.found == 1);
      REQUIRE(error.offset == array.offset + 4);
      REQUIRE(error.end == array.offset + 8);
    }
    Sample sample;
    sample.fill(sample.arrays[i], 1, 2, 9.9e29F);
    REQUIRE(sample.errors(1000).empty());
  }
}

TEST_CASE("negative variances are found, subnormal ones count as zero") {
  struct Case {
    float value;
    bool undamaged;
  };
  for (const Case& test : std::initializer_list<Case>{{0.0F, true},
                                                      {-0.0F, true},
                                                      {float_of(1), true},
                                                      {float_of(0x80000032U), true},
                                                      {float_of(0x807fffffU), true},
                                                      {9.9e29F, true},
                                                      {float_of(0x80800000U), false},
                                                      {-1.0F, false}}) {
    Sample sample;
    const Array array = sample.array(1, Role::kMovingVariance);
    sample.fill(array, 5, 6, test.value);
    REQUIRE(sample.errors().empty() == test.undamaged);
    if (!test.undamaged) {
      const Error error = sample.only(Code::kNegativeVariance);
      REQUIRE(error.offset == array.offset + 20);
      REQUIRE(error.end == array.offset + 24);
      REQUIRE(error.segment == array.segment);
      REQUIRE(error.found == 1);
    }
    for (const Role role : {Role::kBeta, Role::kGamma, Role::kMovingMean, Role::kKernel}) {
      Sample other;
      other.fill(other.array(1, role), 5, 6, test.value);
      REQUIRE(other.errors().empty());
    }
  }
}

TEST_CASE("a batch normalization of zeros was never written") {
  for (const float zero : {0.0F, -0.0F, float_of(3)}) {
    Sample sample;
    const Array gamma = sample.array(1, Role::kGamma);
    const Array variance = sample.array(1, Role::kMovingVariance);
    sample.fill(gamma, zero);
    REQUIRE(sample.errors().empty());
    sample.fill(variance, zero);
    REQUIRE(sample.only(Code::kZeros).end == gamma.end());
    sample.fill(sample.array(1, Role::kMovingMean), zero);
    const Error error = sample.only(Code::kZeros);
    REQUIRE(error.offset == gamma.offset);
    REQUIRE(error.end == variance.end());
    REQUIRE(error.role == static_cast<std::int64_t>(Role::kGamma));
  }
  // As Darknet begins to train: mean and variance are zero, gamma is 1.
  Sample untrained;
  for (std::size_t layer = 0; layer < 3; ++layer) {
    untrained.fill(untrained.array(layer, Role::kBeta), 0.0F);
    untrained.fill(untrained.array(layer, Role::kGamma), 1.0F);
    untrained.fill(untrained.array(layer, Role::kMovingMean), 0.0F);
    untrained.fill(untrained.array(layer, Role::kMovingVariance), 0.0F);
  }
  CHECK(untrained.errors().empty());
}

TEST_CASE("a long run of zeros in a kernel was never written") {
  for (const std::uint64_t begin : {0U, 1U, 63U, 288U, 5000U}) {
    for (const std::uint64_t size : {1023U, 1024U, 1025U, 4000U}) {
      Sample sample;
      const Array kernel = sample.array(1, Role::kKernel);
      sample.fill(kernel, begin, begin + size, 0.0F);
      REQUIRE((begin % kernel.filter_floats != 0 || size % kernel.filter_floats != 0));
      if (size < 1024) {
        REQUIRE(sample.errors().empty());
        continue;
      }
      const Error error = sample.only(Code::kZeros);
      REQUIRE(error.offset == kernel.offset + 4 * begin);
      REQUIRE(error.end == error.offset + 4 * size);
      REQUIRE(error.segment == kernel.segment);
    }
  }
}

TEST_CASE("dead filters are not damage") {
  for (const std::uint64_t dead : {1U, 4U, 20U}) {
    for (const Role how : {Role::kGamma, Role::kMovingVariance}) {
      Sample sample;
      const Array kernel = sample.array(1, Role::kKernel);
      sample.fill(kernel, 10 * kernel.filter_floats, (10 + dead) * kernel.filter_floats, 0.0F);
      const bool long_run = dead * kernel.filter_floats >= kZeroRun;
      REQUIRE(sample.errors().empty() == !long_run);  // live filters are not all zero
      sample.fill(sample.array(1, how), 10, 10 + dead, float_of(0x80000032U));
      REQUIRE(sample.errors().empty());
    }
  }
}

TEST_CASE("a kernel of zeros is damage if its filters are alive") {
  Sample sample;
  sample.fill(sample.array(1, Role::kKernel), 0.0F);
  CHECK(sample.only(Code::kZeros).segment == sample.array(1, Role::kKernel).segment);
  // A kernel without batch normalization may be all zero.
  Sample head;
  head.fill(head.arrays.back(), 0.0F);
  CHECK(head.errors().empty());
  // So may all kernels, as in files made by hand.
  Sample zero_kernels;
  for (const Array& array : zero_kernels.arrays) {
    if (array.role == Role::kKernel) {
      zero_kernels.fill(array, 0.0F);
    }
  }
  CHECK(zero_kernels.errors().empty());
}

TEST_CASE("zeros at the end of the file were never written") {
  for (const std::uint64_t size : {63U, 64U, 65U, 200U}) {
    Sample sample;
    std::fill(sample.floats.end() - static_cast<std::ptrdiff_t>(size), sample.floats.end(), 0.0F);
    // 64 are one filter of the last kernel, which may be dead.
    REQUIRE(sample.errors().empty() == (size < 65));
    if (size >= 65) {
      const Error error = sample.only(Code::kZeros);
      REQUIRE(error.end == 4 * sample.floats.size());
      REQUIRE(error.offset == error.end - 4 * size);
    }
  }
  // Half of the file: a single range, which begins in this kernel.
  Sample half;
  std::fill(half.floats.begin() + 20001, half.floats.end(), 0.0F);
  const std::vector<Error> errors = half.errors();
  REQUIRE(!errors.empty());
  CHECK(errors[0].code == Code::kZeros);
  CHECK(errors[0].offset == 4 * 20001);
  CHECK(errors[0].segment == half.array(1, Role::kKernel).segment);
}

TEST_CASE("a file of zeros only is not reported") {
  Sample sample;
  std::fill(sample.floats.begin(), sample.floats.end(), 0.0F);
  CHECK(sample.errors().empty());
  sample.floats[7] = 1.0F;
  CHECK(!sample.errors().empty());
}

TEST_CASE("a pruned kernel is not damage") {
  Sample sample;
  const Array kernel = sample.array(1, Role::kKernel);
  for (std::uint64_t i = 0; i < kernel.count; i += 3) {
    sample.fill(kernel, i, i + 2, 0.0F);
  }
  sample.fill(kernel, 3001, 3001 + 1500, 0.0F);
  CHECK(sample.errors().empty());
}

TEST_CASE("repeated blocks are found") {
  constexpr std::uint64_t kFloats = kRepeatBytes / 4;
  for (const std::uint64_t size : {kFloats / 2, kFloats, kFloats + 1, 2 * kFloats}) {
    for (const std::uint64_t to : {std::uint64_t{40000}, std::uint64_t{52345}}) {
      Sample sample({64, 128, 128});
      const std::uint64_t from = 777;
      std::copy_n(sample.floats.begin() + from, size,
                  sample.floats.begin() + static_cast<std::ptrdiff_t>(to));
      std::vector<Error> errors = sample.errors();
      // The copy also makes variances negative.
      errors.erase(std::remove_if(errors.begin(), errors.end(),
                                  [](const Error& e) { return e.code != Code::kRepeated; }),
                   errors.end());
      REQUIRE(errors.size() == (size < kFloats ? 0 : 1));
      if (size >= kFloats) {
        REQUIRE(errors[0].offset == 4 * to);
        REQUIRE(errors[0].end == 4 * (to + size));
        REQUIRE(errors[0].expected == 4 * from);
        REQUIRE(errors[0].found == 4 * (from + size));
      }
    }
  }
}

TEST_CASE("constants and patterns are not repeated blocks") {
  for (const int kind : {0, 1, 2, 3}) {
    Sample sample({64, 128, 128});
    for (std::size_t i = 5; i < sample.floats.size(); ++i) {
      const std::size_t position = i + (i > 60000 ? 3 : 0);
      sample.floats[i] = kind == 0   ? 1.0F
                         : kind == 1 ? static_cast<float>(position % 251)
                         : kind == 2 ? static_cast<float>(1 + position % 2)
                                     : static_cast<float>(position % 5000);
    }
    REQUIRE(sample.errors().empty());
  }
}

TEST_CASE("a file of equal samples takes no longer") {
  // Many samples with the same hash; the floats after them differ.
  std::vector<float> floats(1 << 20);
  std::mt19937 random(1);
  float mark = 0.0F;
  for (std::uint32_t bits = 0x3f800000U; mark == 0.0F; ++bits) {
    ScanResult result;
    std::vector<float> line(64, 0.5F);
    line[0] = float_of(bits);
    scan_for_damage(reinterpret_cast<const std::byte*>(line.data()), 0, 256, &result);
    mark = result.samples.size() == 1 && result.samples[0].offset == 0 ? line[0] : 0.0F;
  }
  for (std::size_t i = 0; i < floats.size(); ++i) {
    floats[i] = i % 32 == 0 ? mark : i % 32 < 17 ? 0.5F : static_cast<float>(random() % 1000);
  }
  const Bytes bytes(floats.data(), 4 * floats.size());
  ScanResult result;
  scan_for_damage(bytes.data(), 0, bytes.size(), &result);
  CHECK(result.samples.size() > 10000);
  const std::vector<Array> arrays = {{0, floats.size(), 1, Role::kKernel, 0}};
  CHECK(find_damage(bytes.data(), bytes.size(), arrays, {result}).empty());
}

// Checks float by float.
BlockSummary summarize_slowly(const std::byte* bytes) {
  BlockSummary block;
  std::uint64_t zeros = 0;
  for (std::uint64_t j = 0; j < kBlockFloats; ++j) {
    const auto bits = load<std::uint32_t>(bytes + 4 * j);
    block.huge = block.huge || !(std::fabs(float_of(bits)) < 1e30F);
    zeros += (bits & 0x7fffffffU) < 0x00800000U ? 1U : 0U;
    if (bits * kSampleFactor >= kSampleThreshold) {
      block.samples |= std::uint64_t{1} << j;
    }
  }
  block.zeros = zeros == kBlockFloats;
  return block;
}

TEST_CASE("every instruction set skips the same blocks") {
  std::mt19937 random(3);
  std::vector<std::uint32_t> numbers(1000 * kBlockFloats);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = 0x3c000000U + (random() & 0x80ffffffU);
  }
  // Values at the limits of what is notable, at any position in a block.
  constexpr std::uint32_t kSpecial[] = {
      0,           1,           0x007fffffU, 0x00800000U, 0x7f7fffffU, 0x7f800000U,
      0x7f800001U, 0x7fffffffU, 0x80000000U, 0x807fffffU, 0x80800000U, 0xff7fffffU,
      0xff800000U, 0xffffffffU, 0x7149f2c9U, 0x7149f2caU, 0xf149f2c9U, 0xf149f2caU};
  for (std::size_t i = 0; i < 300; ++i) {
    numbers[random() % numbers.size()] = kSpecial[random() % std::size(kSpecial)];
  }
  for (std::size_t block = 0; block < 1000; block += 9) {
    const std::uint32_t value = kSpecial[block % std::size(kSpecial)];
    std::fill_n(numbers.begin() + static_cast<std::ptrdiff_t>(kBlockFloats * block), kBlockFloats,
                value);
    if (block % 2 != 0) {
      numbers[kBlockFloats * block + random() % kBlockFloats] =
          kSpecial[random() % std::size(kSpecial)];
    }
  }
  const Bytes bytes(numbers.data(), 4 * numbers.size());
  std::vector<ScanKernels> kernel_sets = {portable_scan()};
  if (avx2_scan().find_notable != nullptr) {
    kernel_sets.push_back(avx2_scan());
  }
  for (const ScanKernels& kernels : kernel_sets) {
    std::uint64_t notable_blocks = 0;
    for (std::uint64_t count = kBatchBlocks, done = 0; done < 1000; done += count) {
      count = std::min((count + 1) % kBatchBlocks + 1, 1000 - done);  // runs of any length
      std::uint64_t expected = 0;
      for (std::uint64_t i = 0; i < count; ++i) {
        const std::byte* at = bytes.data() + kBlockBytes * (done + i);
        const BlockSummary slow = summarize_slowly(at);
        const BlockSummary block = kernels.summarize(at);
        REQUIRE(block.huge == slow.huge);
        REQUIRE(block.zeros == slow.zeros);
        REQUIRE(block.samples == slow.samples);
        const bool notable = slow.huge || slow.zeros || slow.samples != 0;
        expected |= std::uint64_t{notable} << i;
        notable_blocks += notable ? 1U : 0U;
      }
      REQUIRE(kernels.find_notable(bytes.data() + kBlockBytes * done, count) == expected);
    }
    REQUIRE(notable_blocks > 100);
    REQUIRE(notable_blocks < 900);
  }
}

TEST_CASE("each array of the file is listed once") {
  std::vector<Segment> segments = {segment_of(84, 1, 4, 5, 1),
                                   segment_of(20, 1, 4, 1, 1, Role::kBias),
                                   segment_of(20, 1, 4, 1, 1, Role::kBias)};
  for (Segment& segment : segments) {
    segment.norm_offset = 36;
  }
  const std::vector<Array> arrays = sorted_arrays(segments);
  const std::vector<Role> roles = {Role::kBeta, Role::kGamma, Role::kMovingMean,
                                   Role::kMovingVariance, Role::kKernel};
  REQUIRE(arrays.size() == roles.size());
  for (std::size_t i = 0; i < roles.size(); ++i) {
    REQUIRE(arrays[i].role == roles[i]);
    REQUIRE(arrays[i].offset == 20 + 16 * i);
    REQUIRE(arrays[i].filter_floats == (i == 4 ? 5 : 1));
  }
}

#if defined(__SSE__)
TEST_CASE("the rules hold with subnormal numbers flushed to zero") {
  Sample sample;
  sample.fill(sample.array(0, Role::kMovingVariance), 1, 2, float_of(0x80800000U));
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);
  const std::vector<Error> errors = sample.errors();
  _mm_setcsr(before);
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].code == Code::kNegativeVariance);
}
#endif

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
