// What checks of files, plans and variables find, as codes with numbers.
#ifndef YOLOTF_CSRC_WEIGHTS_ERROR_H_
#define YOLOTF_CSRC_WEIGHTS_ERROR_H_

#include <cstdint>
#include <string>

namespace yolotf {

enum class Code {
  kOk = 0,
  kHeaderTooShort,    // expected, found: bytes
  kFileTooShort,      // segment, role; offset..end: the truncated array; expected: its end;
                      // found: bytes of the file
  kWrongSize,         // expected, found: bytes of the file
  kBadSegment,        // segment: its numbers overflow or do not match its shape
  kWrongRank,         // segment; expected, found: number of axes
  kWrongShape,        // segment; axis; expected, found: extent of that axis
  kWrongDtype,        // segment; expected, found: Dtype
  kUninitialized,     // segment
  kShared,            // segment, expected: two segments with the same variable
  kNonfinite,         // segment, role; offset..end: from the first such float to the last;
                      // found: how many
  kHuge,              // as kNonfinite
  kNegativeVariance,  // as kNonfinite
  kZeros,             // segment, role; offset..end: bytes that were never written
  kRepeated,          // segment, role; offset..end: repeats the bytes expected..found
};

// The comment of each code says which other fields are set.
struct Error {
  Code code = Code::kOk;
  std::int64_t segment = -1;
  int axis = -1;
  std::int64_t role = -1;    // of the array in the file: Role in plan.h
  std::uint64_t offset = 0;  // bytes from the start of the file, like `end`
  std::uint64_t end = 0;     // offset of the first byte after the range
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
};

// Fills in *error and returns false.
inline bool fail(Error* error, Code code, std::int64_t segment, std::uint64_t expected,
                 std::uint64_t found) noexcept {
  *error = Error{};
  error->code = code;
  error->segment = segment;
  error->expected = expected;
  error->found = found;
  return false;
}

// Describes the error in one line, in lower case and without a final stop.
std::string describe(const Error& error);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_ERROR_H_
