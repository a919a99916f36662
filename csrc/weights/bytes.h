// Helpers for bytes: unaligned loads and multiplication with an overflow check.
#ifndef YOLOTF_CSRC_WEIGHTS_BYTES_H_
#define YOLOTF_CSRC_WEIGHTS_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace yolotf {

static_assert(sizeof(float) == 4 && std::numeric_limits<float>::is_iec559);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error ".weights files are little-endian and are copied as they are"
#endif

constexpr std::uint64_t kFloatBytes = 4;

// Loads a value from `bytes`, which may be unaligned.
template <typename T>
inline T load(const std::byte* bytes) noexcept {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// Returns false if the product overflows.
inline bool checked_mul(std::uint64_t a, std::uint64_t b, std::uint64_t* product) noexcept {
  if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) {
    return false;
  }
  *product = a * b;
  return true;
}

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_BYTES_H_
