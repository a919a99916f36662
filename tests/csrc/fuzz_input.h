// Reads the input of a fuzz target.
#ifndef YOLOTF_TESTS_CSRC_FUZZ_INPUT_H_
#define YOLOTF_TESTS_CSRC_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace yolotf {

inline void expect(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

// The bytes of the input, followed by any number of zeros.
class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* bytes, std::size_t size) : bytes_(bytes), size_(size) {}

  std::uint8_t byte() {
    if (size_ == 0) {
      return 0;
    }
    --size_;
    return *bytes_++;
  }
  bool flag() { return (byte() & 1) != 0; }
  std::int64_t below(std::int64_t limit) { return byte() % limit; }

  // Mostly small numbers, but any int64 is possible.
  std::int64_t number() {
    const std::uint8_t kind = byte();
    if (kind < 240) {
      return kind - 2;
    }
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) {
      value = value << 8 | byte();
    }
    std::int64_t number = 0;
    std::memcpy(&number, &value, sizeof number);
    return number;
  }

  // Mostly numbers as heads and images have them, but any float is possible, including NaN.
  float real() {
    const std::uint8_t kind = byte();
    if (kind < 224) {
      return static_cast<float>(kind - 112) / 16.0F;
    }
    std::uint8_t bytes[4] = {byte(), byte(), byte(), byte()};
    float value = 0;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }

  const std::uint8_t* rest() const { return bytes_; }
  std::size_t size() const { return size_; }

 private:
  const std::uint8_t* bytes_;
  std::size_t size_;
};

}  // namespace yolotf

#endif  // YOLOTF_TESTS_CSRC_FUZZ_INPUT_H_
