// libFuzzer: the input is a list of edits (copy a block, write zeros, write NaN) to a file of
// random numbers. Every reported error must be true, and a single edit that is damage must be
// found.
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "weights/damage.h"

namespace {

using namespace yolotf;

constexpr std::uint64_t kFloats = 200000;

void expect(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

bool has(const std::vector<Error>& errors, Code code) {
  return std::any_of(errors.begin(), errors.end(),
                     [&](const Error& error) { return error.code == code; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  static const std::vector<float> numbers = [] {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(kFloats);
    std::generate(values.begin(), values.end(), [&] { return normal(random); });
    return values;
  }();
  std::vector<float> floats = numbers;
  const std::uint64_t part = 500 * (1 + data[0]);
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, data + at, std::min<std::size_t>(4, size - std::min(size, at)));
    return value;
  };
  bool changed_twice = false;
  Code expected = Code::kOk;
  for (std::size_t at = 1; at + 8 < size && at < 30; at += 9) {
    const std::uint64_t from = word(at + 1) % kFloats;
    const std::uint64_t count = 1 + word(at + 5) % (kFloats - from);
    changed_twice = changed_twice || expected != Code::kOk;
    if (data[at] % 3 == 0) {
      const std::uint64_t to = (from + count) % (kFloats - count + 1);
      std::memmove(&floats[to], &floats[from], 4 * count);
      const std::uint64_t distance = to > from ? to - from : from - to;
      // In floats, twice the least: only samples are compared, which a small block may not have.
      expected = std::min(count, distance) >= kRepeatBytes / 2 ? Code::kRepeated : Code::kOk;
    } else if (data[at] % 3 == 1) {
      std::fill_n(floats.begin() + static_cast<std::ptrdiff_t>(from), count, 0.0F);
      const bool filters = from % 1000 == 0 && (from + count) % 1000 == 0;
      expected = count >= kZeroRun && !filters && count < kFloats ? Code::kZeros : Code::kOk;
    } else {
      std::memset(&floats[from], 0xff, 4);
      expected = Code::kNonfinite;
    }
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(floats.data());
  const std::vector<Array> arrays = {{0, kFloats, 1000, Role::kKernel, 0}};
  std::vector<ScanResult> results;
  for (std::uint64_t begin = 0; begin < 4 * kFloats; begin += 4 * part) {
    results.emplace_back();
    scan_for_damage(bytes, begin, std::min(4 * kFloats, begin + 4 * part), &results.back());
  }
  const std::vector<Error> errors = find_damage(bytes, 4 * kFloats, arrays, results);
  for (const Error& error : errors) {
    expect(error.offset < error.end && error.end <= 4 * kFloats);
    if (error.code == Code::kRepeated) {
      expect(error.end - error.offset >= kRepeatBytes && error.found <= error.offset);
      expect(std::memcmp(bytes + error.offset, bytes + error.expected, error.end - error.offset) ==
             0);
    } else if (error.code == Code::kZeros) {
      expect(std::all_of(floats.begin() + static_cast<std::ptrdiff_t>(error.offset / 4),
                         floats.begin() + static_cast<std::ptrdiff_t>(error.end / 4),
                         [](float value) { return value == 0.0F; }));
    }
  }
  if (!changed_twice && expected != Code::kOk && part >= 16384) {
    expect(has(errors, expected));
  }
  return 0;
}
