// What a fuzz target's input is read with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace yolotf {

inline void expect(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

// Bytes that say what to do; zeros behind their end.
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

  // Small numbers are likely; any int64 can be.
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

  // Numbers as heads and pictures have them are likely; any float can be, NaN too.
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
