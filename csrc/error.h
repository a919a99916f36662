// What a check of a file, a plan or a variable can find, as a code with numbers.
#ifndef YOLOTF_CSRC_ERROR_H_
#define YOLOTF_CSRC_ERROR_H_

#include <cstdint>
#include <string>

namespace yolotf {

enum class Code {
  kOk = 0,
  kHeaderTooShort,    // expected, found: bytes
  kFileTooShort,      // segment, role; offset..end: an array that is cut; expected: end, found:
                      // bytes of the file
  kWrongSize,         // expected, found: bytes of the file
  kBadSegment,        // segment: its extents overflow, or do not multiply to its shape
  kWrongRank,         // segment; expected, found: number of axes
  kWrongShape,        // segment; axis; expected, found: extent of that axis
  kWrongDtype,        // segment; expected, found: Dtype
  kUninitialized,     // segment
  kShared,            // segment, expected: two segments with one destination
  kNonfinite,         // segment, role; offset..end: from the first to the last; found: how many
  kHuge,              // likewise
  kNegativeVariance,  // likewise
  kZeros,             // segment, role; offset..end: bytes that were never written
  kRepeated,          // segment, role; offset..end: repeats the bytes expected..found
};

// What went wrong; the fields beside `code` mean what the comment of its value says.
struct Error {
  Code code = Code::kOk;
  std::int64_t segment = -1;
  int axis = -1;
  std::int64_t role = -1;    // Role in plan.h: of the array of the file that is meant
  std::uint64_t offset = 0;  // bytes from the start of the file, as end is
  std::uint64_t end = 0;     // the byte behind the last
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
};

// Fills *error in and returns false.
inline bool fail(Error* error, Code code, std::int64_t segment, std::uint64_t expected,
                 std::uint64_t found) noexcept {
  *error = Error{};
  error->code = code;
  error->segment = segment;
  error->expected = expected;
  error->found = found;
  return false;
}

// One line in English; lower case, no final stop.
std::string describe(const Error& error);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_ERROR_H_
