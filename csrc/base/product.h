// Multiplication of sizes that may be wrong. Uses only the standard library.
#ifndef YOLOTF_CSRC_BASE_PRODUCT_H_
#define YOLOTF_CSRC_BASE_PRODUCT_H_

#include <cstdint>
#include <limits>

namespace yolotf {

/// Returns a * b, or -1 if that overflows or a factor is negative. Products of products are
/// therefore -1 as soon as one of them is.
constexpr std::int64_t product(std::int64_t a, std::int64_t b) noexcept {
  if (a < 0 || b < 0 || (a != 0 && b > std::numeric_limits<std::int64_t>::max() / a)) {
    return -1;
  }
  return a * b;
}

}  // namespace yolotf

#endif  // YOLOTF_CSRC_BASE_PRODUCT_H_
