// Multiplication of sizes that come from outside. Uses only the standard library.
#ifndef YOLOTF_CSRC_BASE_PRODUCT_H_
#define YOLOTF_CSRC_BASE_PRODUCT_H_

#include <cstdint>
#include <limits>

namespace yolotf {

// a * b; -1 if it overflows 64 bits or a factor is negative, as the product of others may be.
constexpr std::int64_t product(std::int64_t a, std::int64_t b) noexcept {
  if (a < 0 || b < 0 || (a != 0 && b > std::numeric_limits<std::int64_t>::max() / a)) {
    return -1;
  }
  return a * b;
}

}  // namespace yolotf

#endif  // YOLOTF_CSRC_BASE_PRODUCT_H_
