// What the tests of the core share: doctest, and functions that make files, segments and variables.
//
// The tests should also run under the address and undefined behaviour sanitizers (YOLOTF_SANITIZE).
// They read from heap copies of exactly the data's size, so that a read past the end is noticed.
// REQUIRE ends a test: use it in loops, and where the rest would make no sense.
#ifndef YOLOTF_TESTS_CSRC_TESTING_H_
#define YOLOTF_TESTS_CSRC_TESTING_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

// The sanitizers report crashes.
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS
#include <doctest/doctest.h>

#include "weights/error.h"
#include "weights/plan.h"

namespace yolotf {

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Heap memory of exactly `size` bytes, `shift` bytes after an aligned address.
class Bytes {
 public:
  explicit Bytes(std::uint64_t size, std::uint64_t shift = 0)
      : size_(size), shift_(shift), memory_(new std::byte[size + shift]) {}
  Bytes(const void* source, std::uint64_t size, std::uint64_t shift = 0) : Bytes(size, shift) {
    if (size != 0) {
      std::memcpy(data(), source, size);
    }
  }
  std::byte* data() const { return memory_.get() + shift_; }
  std::uint64_t size() const { return size_; }

 private:
  std::uint64_t size_;
  std::uint64_t shift_;
  std::unique_ptr<std::byte[]> memory_;
};

template <typename T>
void append(std::vector<std::byte>* bytes, T value) {
  const std::size_t end = bytes->size();
  bytes->resize(end + sizeof value);
  std::memcpy(bytes->data() + end, &value, sizeof value);
}

inline std::vector<std::byte> header_of(std::int32_t major, std::int32_t minor, std::uint64_t seen,
                                        bool wide) {
  std::vector<std::byte> bytes;
  append(&bytes, major);
  append(&bytes, minor);
  append(&bytes, std::int32_t{5});
  if (wide) {
    append(&bytes, seen);
  } else {
    append(&bytes, static_cast<std::uint32_t>(seen));
  }
  return bytes;
}

inline std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline Segment segment_of(std::uint64_t offset, std::uint64_t blocks, std::uint64_t filters,
                          std::uint64_t channels, std::uint64_t spatial,
                          Role role = Role::kKernel) {
  Segment segment;
  segment.offset = offset;
  segment.blocks = blocks;
  segment.filters = filters;
  segment.channels = channels;
  segment.spatial = spatial;
  segment.role = role;
  segment.rank = 4;
  segment.shape[0] = blocks;
  segment.shape[1] = spatial;
  segment.shape[2] = channels;
  segment.shape[3] = filters;
  return segment;
}

inline Target target_of(const Segment& segment, Dtype dtype, void* data) {
  Target target;
  target.dtype = dtype;
  target.initialized = true;
  target.rank = segment.rank;
  std::copy(segment.shape, segment.shape + kMaxRank, target.shape);
  target.data = data;
  return target;
}

inline bool is(const Error& error, Code code, std::int64_t segment, std::uint64_t expected,
               std::uint64_t found) {
  return error.code == code && error.segment == segment && error.expected == expected &&
         error.found == found;
}

}  // namespace yolotf

#endif  // YOLOTF_TESTS_CSRC_TESTING_H_
