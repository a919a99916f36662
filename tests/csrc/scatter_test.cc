#include "weights/scatter.h"

#include <cmath>
#include <initializer_list>
#include <random>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "testing.h"

TEST_SUITE_BEGIN("scatter");

namespace yolotf {
namespace {

// A 16-bit format by its definition: the values of all codes, and rounding by a search for the
// nearest value.
class Format {
 public:
  Format(Dtype of, int exponent_bits, int mantissa_bits) : dtype(of) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    infinity = static_cast<std::uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
    // For rounding, infinity stands where the next number after the largest finite one would be.
    for (int code = 0; code <= infinity; ++code) {
      const int exponent = code >> mantissa_bits;
      const int mantissa = code & ((1 << mantissa_bits) - 1);
      values.push_back(exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                     : std::ldexp(mantissa + (1 << mantissa_bits),
                                                  exponent - bias - mantissa_bits));
    }
  }

  // Rounds to nearest, ties to the even code. Not for NaN.
  std::uint16_t round(float value) const {
    const double magnitude = std::fabs(static_cast<double>(value));
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    const auto above = std::lower_bound(values.begin(), values.end(), magnitude) - values.begin();
    std::int64_t code = above;
    if (code == static_cast<std::int64_t>(values.size())) {
      code = infinity;
    } else if (code > 0) {
      const double up = values[static_cast<std::size_t>(code)] - magnitude;
      const double down = magnitude - values[static_cast<std::size_t>(code) - 1];
      if (down < up || (down == up && code % 2 == 1)) {
        --code;
      }
    }
    return static_cast<std::uint16_t>(sign | code);
  }

  bool is_nan(std::uint16_t code) const { return (code & 0x7fff) > infinity; }

  Dtype dtype;
  std::uint16_t infinity;
  std::vector<double> values;
};

std::vector<Format> formats() {
  return {Format(Dtype::kFloat16, 5, 10), Format(Dtype::kBfloat16, 8, 7)};
}

// Runs every task of one segment.
void scatter_all(const std::byte* bytes, const Segment& segment, const Target& target) {
  for (const Task& task : split_into_tasks({segment})) {
    REQUIRE(task.segment == 0);
    scatter(bytes, segment, target, task);
  }
}

// Rounds numbers by a copy or by a transpose of 16 filters.
std::vector<std::uint16_t> rounded(std::vector<float> floats, Dtype dtype, bool transpose) {
  const std::size_t size = floats.size();
  floats.resize((size + 127) / 128 * 128, 0.0F);
  const Bytes bytes(floats.data(), 4 * floats.size());
  const std::uint64_t columns = floats.size() / 16;
  const Segment segment =
      transpose ? segment_of(0, 1, 16, columns, 1) : segment_of(0, 1, 1, floats.size(), 1);
  std::vector<std::uint16_t> out(floats.size());
  scatter_all(bytes.data(), segment, target_of(segment, dtype, out.data()));
  if (transpose) {
    std::vector<std::uint16_t> in_order(out.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      in_order[i] = out[i % columns * 16 + i / columns];
    }
    out = in_order;
  }
  out.resize(size);
  return out;
}

void check_rounding(const std::vector<float>& floats) {
  for (const Format& format : formats()) {
    for (const bool portable : {true, false}) {
      force_portable(portable);
      for (const bool transpose : {false, true}) {
        const std::vector<std::uint16_t> codes = rounded(floats, format.dtype, transpose);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < floats.size(); ++i) {
          const bool right =
              std::isnan(floats[i])
                  ? format.is_nan(codes[i]) && (codes[i] >> 15) == (bits_of(floats[i]) >> 31)
                  : codes[i] == format.round(floats[i]);
          wrong += right ? 0U : 1U;
        }
        REQUIRE(wrong == 0);
      }
    }
  }
}

TEST_CASE("the reference for rounding is right") {
  const std::vector<Format> all_formats = formats();
  CHECK(all_formats[0].values[0x3c00] == 1.0);
  CHECK(all_formats[0].values[1] == std::ldexp(1, -24));
  CHECK(all_formats[0].values[0x7bff] == 65504.0);
  CHECK(all_formats[0].infinity == 0x7c00);
  CHECK(all_formats[1].values[0x3f80] == 1.0);
  CHECK(all_formats[1].infinity == 0x7f80);
  CHECK(all_formats[1].values[0x7f7f] == static_cast<double>(float_of(0x7f7f0000U)));
  CHECK(all_formats[0].round(65519.0F) == 0x7bff);
  CHECK(all_formats[0].round(65520.0F) == 0x7c00);
  CHECK(all_formats[0].round(-1.0F) == 0xbc00);
  CHECK(all_formats[0].round(-0.0F) == 0x8000);
}

TEST_CASE("all exponents round to nearest even") {
  std::vector<std::uint32_t> mantissas = {0, 0x7fffff};
  for (int bit = 0; bit < 23; ++bit) {
    const std::uint32_t power = 1U << bit;
    // Alone, with its neighbours, and as a tie after an odd and an even number.
    for (const std::uint32_t mantissa :
         {power, power - 1, power + 1, power | power << 1, (power | power << 1) - 1,
          (power | power << 1) + 1, 0x7fffffU - power, 0x7fffffU & ~(power - 1)}) {
      mantissas.push_back(mantissa & 0x7fffffU);
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 16; ++i) {
    mantissas.push_back(static_cast<std::uint32_t>(random()) & 0x7fffffU);
  }
  std::vector<float> floats;
  for (std::uint32_t exponent = 0; exponent < 256; ++exponent) {
    for (const std::uint32_t mantissa : mantissas) {
      for (const std::uint32_t sign : {0U, 1U}) {
        floats.push_back(float_of(sign << 31 | exponent << 23 | mantissa));
      }
    }
  }
  check_rounding(floats);
}

TEST_CASE("every tie rounds to even") {
  for (const Format& format : formats()) {
    std::vector<float> floats;
    for (std::size_t code = 0; code + 1 < format.values.size(); ++code) {
      const auto tie = static_cast<float>((format.values[code] + format.values[code + 1]) / 2);
      floats.insert(floats.end(), {tie, std::nextafter(tie, 0.0F), std::nextafter(tie, kInfinity),
                                   static_cast<float>(format.values[code])});
    }
    check_rounding(floats);
  }
}

// How many floats of the segment are not where they belong by definition, in the order of the file
// (block, filter, channel, position); arrived(from, to) tells of power, by its numbers in both.
template <typename Arrived>
std::uint64_t misplaced(const Segment& segment, const Arrived& arrived) {
  std::uint64_t from = 0;
  std::uint64_t count = 0;
  for (std::uint64_t block = 0; block < segment.blocks; ++block) {
    for (std::uint64_t filter = 0; filter < segment.filters; ++filter) {
      for (std::uint64_t channel = 0; channel < segment.channels; ++channel) {
        for (std::uint64_t position = 0; position < segment.spatial; ++position) {
          const std::uint64_t to =
              ((block * segment.spatial + position) * segment.channels + channel) *
                  segment.filters +
              filter;
          count += arrived(from++, to) ? 0U : 1U;
        }
      }
    }
  }
  return count;
}

void check_scatter(const Segment& segment, std::uint64_t shift) {
  const std::uint64_t count = segment.count();
  std::vector<float> floats(segment.offset / 4 + count);
  for (std::uint64_t i = 0; i < count; ++i) {
    floats[segment.offset / 4 + i] = static_cast<float>(i % 251);  // exact in 16 bits too
  }
  const Bytes small(floats.data(), 4 * floats.size());
  for (std::uint64_t i = 0; i < count; ++i) {
    // NaNs with payloads among them: what is not rounded is moved bit by bit.
    floats[segment.offset / 4 + i] = float_of(0x7f800001U + static_cast<std::uint32_t>(i * 977));
  }
  const Bytes wild(floats.data(), 4 * floats.size());
  const std::vector<Format> all_formats = formats();
  for (const bool portable : {true, false}) {
    force_portable(portable);
    {
      const Bytes out(4 * count, 4 * shift);
      scatter_all(wild.data(), segment, target_of(segment, Dtype::kFloat32, out.data()));
      REQUIRE(misplaced(segment, [&](std::uint64_t from, std::uint64_t to) {
                return std::memcmp(out.data() + 4 * to, wild.data() + segment.offset + 4 * from,
                                   4) == 0;
              }) == 0);
    }
    for (const Format& format : all_formats) {
      const Bytes out(2 * count, 2 * shift);
      scatter_all(small.data(), segment, target_of(segment, format.dtype, out.data()));
      REQUIRE(misplaced(segment, [&](std::uint64_t from, std::uint64_t to) {
                std::uint16_t code;
                std::memcpy(&code, out.data() + 2 * to, sizeof code);
                return format.values[code] == static_cast<double>(from % 251);
              }) == 0);
    }
  }
}

TEST_CASE("every float of odd shapes gets to its place") {
  for (const std::uint64_t filters : {1U, 2U, 7U, 8U, 15U, 16U, 17U, 32U, 33U, 48U}) {
    for (const std::uint64_t channels : {1U, 2U, 3U, 7U, 8U, 9U}) {
      for (const std::uint64_t spatial : {1U, 2U, 9U, 25U}) {
        for (const std::uint64_t blocks : {1U, 3U}) {
          const std::uint64_t shift = (filters + channels + spatial) % 3;
          check_scatter(segment_of(20, blocks, filters, channels, spatial), shift);
        }
      }
    }
  }
}

TEST_CASE("every float of segments of several tasks gets to its place") {
  const std::vector<Segment> segments = {
      segment_of(16, 1, 1, 3 * 65536 + 5, 1),  // copied
      segment_of(16, 3, 1, 65536, 1),          // copied across blocks
      segment_of(16, 1, 100, 256, 9),          // transposed, the last panel not full
      segment_of(16, 1, 96, 256, 9),           // transposed in whole lines
      segment_of(16, 1, 33, 5000, 1),          // dense
      segment_of(16, 2, 20, 700, 9),           // one kernel a position
      segment_of(16, 1, 1, 512, 9),            // one filter
      segment_of(16, 1, 512, 1, 9),            // depthwise
  };
  for (const Segment& segment : segments) {
    check_scatter(segment, 0);
  }
}

TEST_CASE("offsets need not be aligned") {
  for (std::uint64_t odd = 1; odd < 4; ++odd) {
    for (const Segment& plain : {segment_of(20, 1, 33, 5, 9), segment_of(20, 1, 1, 99, 1)}) {
      Segment segment = plain;
      segment.offset += odd;
      std::vector<float> floats(segment.count());
      for (std::size_t i = 0; i < floats.size(); ++i) {
        floats[i] = static_cast<float>(i);
      }
      const Bytes bytes(segment.offset + 4 * floats.size());
      std::memcpy(bytes.data() + segment.offset, floats.data(), 4 * floats.size());
      for (const bool portable : {true, false}) {
        force_portable(portable);
        std::vector<float> out(floats.size());
        scatter_all(bytes.data(), segment, target_of(segment, Dtype::kFloat32, out.data()));
        REQUIRE(misplaced(segment, [&](std::uint64_t from, std::uint64_t to) {
                  return bits_of(out[to]) == bits_of(floats[from]);
                }) == 0);
      }
    }
  }
}

// Compares with gamma / sqrt(variance + 1e-5) in long double.
TEST_CASE("folding multiplies every filter by its scale") {
  for (const std::uint64_t filters : {1U, 3U, 16U, 17U, 64U}) {
    for (const std::uint64_t columns : {1U, 5U, 8U, 20U}) {
      std::mt19937 random(1);
      std::uniform_real_distribution<float> uniform(0.1F, 2.0F);
      const std::uint64_t count = filters * columns;
      std::vector<float> floats(5 + 4 * filters + count);
      for (float& value : floats) {
        value = uniform(random);
      }
      const float* beta = floats.data() + 5;
      const float* gamma = beta + filters;
      const float* mean = gamma + filters;
      const float* variance = mean + filters;
      const float* kernel = variance + filters;
      Segment segments[] = {
          segment_of(20 + 16 * filters, 1, filters, columns, 1),
          segment_of(20, 1, filters, 1, 1, Role::kBeta),
          segment_of(20 + 4 * filters, 1, filters, 1, 1, Role::kScale),
          segment_of(20 + 16 * filters, filters, 1, columns, 1),  // keeps the order of the file
      };
      const Bytes bytes(floats.data(), 4 * floats.size());
      std::vector<float> before;
      for (const bool portable : {true, false}) {
        force_portable(portable);
        std::vector<float> results;
        for (Segment& segment : segments) {
          segment.norm_offset = 20 + 4 * filters;
          std::vector<float> out(segment.count());
          scatter_all(bytes.data(), segment, target_of(segment, Dtype::kFloat32, out.data()));
          results.insert(results.end(), out.begin(), out.end());
        }
        for (std::uint64_t filter = 0; filter < filters; ++filter) {
          const long double scale =
              gamma[filter] / std::sqrt(static_cast<long double>(variance[filter]) + 1e-5L);
          const auto close = [](float a, long double b, long double scale_of_b) {
            return std::fabs(a - b) <= 2e-7L * scale_of_b;
          };
          for (std::uint64_t column = 0; column < columns; ++column) {
            const long double value = kernel[filter * columns + column] * scale;
            REQUIRE(close(results[column * filters + filter], value, value));
            REQUIRE(results[count + 2 * filters + filter * columns + column] ==
                    results[column * filters + filter]);
          }
          REQUIRE(close(results[count + filter], beta[filter] - mean[filter] * scale,
                        beta[filter] + mean[filter] * scale));
          REQUIRE(close(results[count + filters + filter], scale, scale));
        }
        REQUIRE((before.empty() || before == results));
        before = results;
      }
    }
  }
}

#if defined(__SSE__)
// Flushes subnormals to zero, as TensorFlow does in its threads.
class SubnormalsAreZero {
 public:
  SubnormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~SubnormalsAreZero() { _mm_setcsr(before_); }

 private:
  unsigned before_;
};

TEST_CASE("subnormal numbers are kept where the processor flushes them to zero") {
  const Segment segments[] = {segment_of(0, 1, 1, 99, 1), segment_of(0, 1, 40, 11, 9)};
  for (const Segment& segment : segments) {
    std::vector<std::uint32_t> bits(segment.count());
    for (std::size_t i = 0; i < bits.size(); ++i) {
      bits[i] = static_cast<std::uint32_t>(i) + 1;
    }
    const Bytes bytes(bits.data(), 4 * bits.size());
    for (const bool portable : {true, false}) {
      force_portable(portable);
      std::vector<std::uint32_t> out(bits.size());
      {
        const SubnormalsAreZero mode;
        scatter_all(bytes.data(), segment, target_of(segment, Dtype::kFloat32, out.data()));
      }
      REQUIRE(misplaced(segment, [&](std::uint64_t from, std::uint64_t to) {
                return out[to] == bits[from];
              }) == 0);
    }
  }
}
#endif

TEST_CASE("force_portable takes effect") {
  force_portable(true);
  CHECK(std::string(scatter_isa()) == "portable");
  force_portable(false);
  const std::string isa = scatter_isa();
  CHECK((isa == "avx2" || isa == "portable"));
}

TEST_CASE("tasks cover every float exactly once") {
  std::vector<Segment> segments;
  std::mt19937 random(1);
  const auto extent = [&](std::uint64_t most) { return 1 + random() % most; };
  for (int i = 0; i < 60; ++i) {
    segments.push_back(segment_of(20, extent(3), extent(70), extent(40), extent(25)));
  }
  segments.push_back(segment_of(20, 1, 1, 200001, 1));
  segments.push_back(segment_of(20, 1, 17, 70000, 1));
  segments.push_back(segment_of(20, 1, 300, 100, 9));
  std::vector<std::vector<int>> written;
  for (const Segment& segment : segments) {
    written.emplace_back(segment.count(), 0);
  }
  for (const Task& task : split_into_tasks(segments)) {
    const Segment& segment = segments[task.segment];
    REQUIRE(task.begin < task.end);
    // The task writes ones into zeros.
    const std::uint64_t count = segment.count();
    const std::vector<float> ones(5 + count, 1.0F);
    std::vector<float> out(count, 0.0F);
    scatter(reinterpret_cast<const std::byte*>(ones.data()), segment,
            target_of(segment, Dtype::kFloat32, out.data()), task);
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      const int wrote = out[i] == 1.0F ? 1 : 0;
      written[task.segment][i] += wrote;
      sum += static_cast<std::uint64_t>(wrote);
    }
    // At most 1 MB, or 32 rows if they are longer.
    REQUIRE(4 * sum <= std::max<std::uint64_t>(1 << 20, 128 * segment.channels * segment.spatial));
  }
  for (const std::vector<int>& times : written) {
    REQUIRE(std::all_of(times.begin(), times.end(), [](int count) { return count == 1; }));
  }
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
