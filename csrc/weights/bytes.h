// Raw bytes of a file: unaligned loads, ranges, and multiplication with an overflow check.
#ifndef YOLOTF_CSRC_WEIGHTS_BYTES_H_
#define YOLOTF_CSRC_WEIGHTS_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace yolotf {

static_assert(sizeof(float) == 4 && std::numeric_limits<float>::is_iec559);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error ".weights files are little-endian and are copied without conversion"
#endif

constexpr std::uint64_t kFloatBytes = 4;

// The bytes of a file from offset `begin` to before offset `end`.
struct ByteRange {
  std::uint64_t begin;
  std::uint64_t end;
};

// Loads a value from `bytes`, which may be unaligned.
template <typename T>
inline T load(const std::byte* bytes) noexcept {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// Sets *product to a * b; returns false if that overflows.
inline bool checked_mul(std::uint64_t a, std::uint64_t b, std::uint64_t* product) noexcept {
  if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) {
    return false;
  }
  *product = a * b;
  return true;
}

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_BYTES_H_
