#include "weights/header.h"

#include <algorithm>

#include "weights/bytes.h"

namespace yolotf {

std::uint64_t version_header_bytes(std::int64_t major, std::int64_t minor) noexcept {
  // The limits come first: text that is read as a header would overflow the sum.
  const bool wide = major < 1000 && minor < 1000 && major * 10 + minor >= 2;
  return wide ? kWideHeaderBytes : kNarrowHeaderBytes;
}

bool stores_transposed(std::int64_t major, std::int64_t minor) noexcept {
  return major > 1000 || minor > 1000;
}

bool parse_header(const std::byte* bytes, std::uint64_t available, std::uint64_t file_bytes,
                  std::int64_t floats, Header* header, Error* error) noexcept {
  available = std::min(available, file_bytes);
  if (available < kNarrowHeaderBytes) {
    return fail(error, Code::kHeaderTooShort, -1, kNarrowHeaderBytes, available);
  }
  header->major = load<std::int32_t>(bytes);
  header->minor = load<std::int32_t>(bytes + 4);
  header->revision = load<std::int32_t>(bytes + 8);
  header->transposed = stores_transposed(header->major, header->minor);
  header->version_size_bytes = version_header_bytes(header->major, header->minor);
  header->size_bytes = header->version_size_bytes;
  if (floats >= 0) {
    std::uint64_t data_bytes = 0;
    if (checked_mul(static_cast<std::uint64_t>(floats), kFloatBytes, &data_bytes)) {
      for (const std::uint64_t size_bytes : {kNarrowHeaderBytes, kWideHeaderBytes}) {
        if (file_bytes >= size_bytes && file_bytes - size_bytes == data_bytes) {
          header->size_bytes = size_bytes;
        }
      }
    }
  }
  if (available < header->size_bytes) {
    return fail(error, Code::kHeaderTooShort, -1, header->size_bytes, available);
  }
  header->seen = header->size_bytes == kWideHeaderBytes ? load<std::uint64_t>(bytes + 12)
                                                        : load<std::uint32_t>(bytes + 12);
  return true;
}

}  // namespace yolotf
