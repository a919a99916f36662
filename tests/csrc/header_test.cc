#include "weights/header.h"

#include <initializer_list>

#include "testing.h"

TEST_SUITE_BEGIN("header");

namespace yolotf {
namespace {

Header parsed(const std::vector<std::byte>& bytes, std::uint64_t file_bytes,
              std::int64_t floats = -1) {
  Header header;
  Error error;
  const Bytes copy(bytes.data(), bytes.size());
  REQUIRE(parse_header(copy.data(), copy.size(), file_bytes, floats, &header, &error));
  REQUIRE(error.code == Code::kOk);
  return header;
}

TEST_CASE("versions since 0.2 have a header of 20 bytes") {
  const Header header = parsed(header_of(0, 2, 0x123456789abULL, true), 1000);
  CHECK(header.major == 0);
  CHECK(header.minor == 2);
  CHECK(header.revision == 5);
  CHECK(header.seen == 0x123456789abULL);
  CHECK(header.size_bytes == 20);
  CHECK(header.version_size_bytes == 20);
  CHECK(!header.transposed);
}

TEST_CASE("versions before 0.2 have a header of 16 bytes") {
  const Header header = parsed(header_of(0, 1, 0xfedcba98U, false), 1000);
  CHECK(header.minor == 1);
  CHECK(header.seen == 0xfedcba98U);
  CHECK(header.size_bytes == 16);
  CHECK(header.version_size_bytes == 16);
  CHECK(!header.transposed);
}

TEST_CASE("versions are compared as in Darknet") {
  struct Case {
    std::int32_t major, minor;
    std::uint64_t size_bytes;
    bool transposed;
  };
  for (const Case& test :
       std::initializer_list<Case>{{0, 0, 16, false},
                                   {1, 0, 20, false},
                                   {0, 999, 20, false},
                                   {999, 0, 20, false},
                                   {1000, 0, 16, false},
                                   {0, 1000, 16, false},
                                   {1001, 0, 16, true},
                                   {0, 1001, 16, true},
                                   {-1, 12, 20, false},
                                   {-1, 11, 16, false},
                                   {std::numeric_limits<std::int32_t>::min(), 0, 16, false},
                                   {0, std::numeric_limits<std::int32_t>::min(), 16, false},
                                   // Times 10 and in 32 bits this one would be positive.
                                   {-2000000000, 2, 16, false},
                                   {std::numeric_limits<std::int32_t>::max(),
                                    std::numeric_limits<std::int32_t>::max(), 16, true}}) {
    const Header header = parsed(header_of(test.major, test.minor, 7, true), 20);
    REQUIRE(header.major == test.major);
    REQUIRE(header.minor == test.minor);
    REQUIRE(header.version_size_bytes == test.size_bytes);
    REQUIRE(header.transposed == test.transposed);
  }
}

TEST_CASE("the size of the file overrules the version") {
  const Header narrow = parsed(header_of(0, 2, 9, true), 16 + 4 * 10, 10);
  CHECK(narrow.size_bytes == 16);
  CHECK(narrow.version_size_bytes == 20);
  CHECK(narrow.seen == 9);
  const Header wide = parsed(header_of(0, 1, 0x100000009ULL, true), 20 + 4 * 10, 10);
  CHECK(wide.size_bytes == 20);
  CHECK(wide.version_size_bytes == 16);
  CHECK(wide.seen == 0x100000009ULL);
  // Where neither is exact, and where the floats' bytes overflow, the version decides.
  CHECK(parsed(header_of(0, 2, 9, true), 18 + 4 * 10, 10).size_bytes == 20);
  CHECK(parsed(header_of(0, 1, 9, true), 24 + 4 * 10, 10).size_bytes == 16);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  CHECK(parsed(header_of(0, 2, 9, true), 1000, kMost).size_bytes == 20);
  CHECK(parsed(header_of(0, 2, 9, true), kHuge, kMost).size_bytes == 20);
  CHECK(parsed(header_of(0, 2, 9, true), 20, std::int64_t{1} << 62).size_bytes == 20);
  CHECK(parsed(header_of(0, 1, 9, true), 20, 0).size_bytes == 20);
}

TEST_CASE("every prefix of a header is refused with both numbers") {
  for (const bool wide : {true, false}) {
    const std::vector<std::byte> whole = header_of(0, wide ? 2 : 1, 42, wide);
    for (std::uint64_t size = 0; size <= whole.size(); ++size) {
      for (std::uint64_t shift = 0; shift < 4; ++shift) {
        const Bytes copy(whole.data(), size, shift);
        Header header;
        Error error;
        const bool sound = parse_header(copy.data(), size, size, -1, &header, &error);
        REQUIRE(sound == (size == whole.size()));
        const std::uint64_t needed = wide && size >= 16 ? 20 : 16;
        REQUIRE((sound || is(error, Code::kHeaderTooShort, -1, needed, size)));
        REQUIRE((!sound || header.seen == 42));
      }
    }
  }
}

TEST_CASE("text is read as a header without overflow") {
  const char* text = "<!DOCTYPE html>\n<html>";
  const Bytes copy(text, 20);
  Header header;
  Error error;
  REQUIRE(parse_header(copy.data(), 20, 20, -1, &header, &error));
  CHECK(header.major == 0x4f44213c);
  CHECK(header.transposed);
  CHECK(header.size_bytes == 16);
}

TEST_CASE("bytes after the end of the file are not read") {
  // 20 bytes are at hand, but the file is said to have 18.
  const std::vector<std::byte> whole = header_of(0, 2, 42, true);
  Header header;
  Error error;
  CHECK(!parse_header(whole.data(), 20, 18, -1, &header, &error));
  CHECK(is(error, Code::kHeaderTooShort, -1, 20, 18));
}

}  // namespace
}  // namespace yolotf

TEST_SUITE_END();
