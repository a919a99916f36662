// libFuzzer: whatever the bytes and the number of floats, the header lies within the file or is
// rejected.
#include <cstring>

#include "weights/header.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  std::int64_t floats = -1;
  if (size >= sizeof floats) {
    std::memcpy(&floats, bytes + size - sizeof floats, sizeof floats);
  }
  for (const std::int64_t known : {std::int64_t{-1}, floats, static_cast<std::int64_t>(size / 4)}) {
    yolotf::Header header;
    yolotf::Error error;
    const bool sound = yolotf::parse_header(bytes, size, size, known, &header, &error);
    const bool width = header.size_bytes == 16 || header.size_bytes == 20;
    if (sound ? !width || header.size_bytes > size : error.code == yolotf::Code::kOk) {
      __builtin_trap();
    }
  }
  return 0;
}
