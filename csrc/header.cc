#include "header.h"

#include <algorithm>

#include "bytes.h"

namespace yolotf {

bool parse_header(const std::byte* bytes, std::uint64_t available, std::uint64_t file_bytes,
                  std::int64_t floats, Header* header, Error* error) noexcept {
  available = std::min(available, file_bytes);
  if (available < kNarrowHeaderBytes) {
    return fail(error, Code::kHeaderTooShort, -1, kNarrowHeaderBytes, available);
  }
  header->major = load<std::int32_t>(bytes);
  header->minor = load<std::int32_t>(bytes + 4);
  header->revision = load<std::int32_t>(bytes + 8);
  // 64 bits: text read as a header overflows 32.
  const std::int64_t major = header->major;
  const std::int64_t minor = header->minor;
  header->transposed = major > 1000 || minor > 1000;
  const bool wide = major * 10 + minor >= 2 && major < 1000 && minor < 1000;
  header->version_size_bytes = wide ? kWideHeaderBytes : kNarrowHeaderBytes;
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
