// The header of a Darknet .weights file.
//
// The file (AlexeyAB/darknet src/parser.c:2242-2355, all little-endian):
//
//   int32 major, minor, revision
//   uint64 seen    if major * 10 + minor >= 2 and both are below 1000: 20 bytes so far
//   uint32 seen    else: 16 bytes so far
//   float32 ...    up to the end of the file: no names, no shapes, no padding
//
// Some writers store a version that does not match the width of `seen`. If the network's number of
// floats is known, the right width is the one that matches the file's size. If major or minor is
// above 1000, dense kernels are stored as (in, out) instead of (out, in).
#ifndef YOLOTF_CSRC_WEIGHTS_HEADER_H_
#define YOLOTF_CSRC_WEIGHTS_HEADER_H_

#include <cstddef>
#include <cstdint>

#include "weights/error.h"

namespace yolotf {

constexpr std::uint64_t kNarrowHeaderBytes = 16;
constexpr std::uint64_t kWideHeaderBytes = 20;

struct Header {
  std::int32_t major = 0;
  std::int32_t minor = 0;
  std::int32_t revision = 0;
  std::uint64_t seen = 0;
  std::uint64_t size_bytes = 0;          // the actual size: 16 or 20
  std::uint64_t version_size_bytes = 0;  // the size that the version specifies
  bool transposed = false;
};

// The header size that a version specifies.
std::uint64_t version_header_bytes(std::int64_t major, std::int64_t minor) noexcept;

// Whether files of this version store dense kernels as (in, out).
bool stores_transposed(std::int64_t major, std::int64_t minor) noexcept;

// Reads the header of a .weights file of `file_bytes` bytes, of which the first `available` are at
// `bytes`, aligned or not. `floats` is the network's number of floats, negative if unknown. Returns
// false and fills in *error if the file is shorter than its header. Safe on untrusted input: reads
// at most min(20, available) bytes.
bool parse_header(const std::byte* bytes, std::uint64_t available, std::uint64_t file_bytes,
                  std::int64_t floats, Header* header, Error* error) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_HEADER_H_
