#include "weights/error.h"

#include "weights/plan.h"

namespace yolotf {
namespace {

const char* dtype_name(std::uint64_t dtype) {
  switch (static_cast<Dtype>(dtype)) {
    case Dtype::kFloat32:
      return "float32";
    case Dtype::kFloat16:
      return "float16";
    case Dtype::kBfloat16:
      return "bfloat16";
    case Dtype::kOther:
      break;
  }
  return "of another dtype";
}

std::string range(std::uint64_t begin, std::uint64_t end) {
  return "bytes " + std::to_string(begin) + ".." + std::to_string(end);
}

}  // namespace

std::string describe(const Error& error) {
  const std::string expected = std::to_string(error.expected);
  const std::string found = std::to_string(error.found);
  const std::string segment = "segment " + std::to_string(error.segment);
  switch (error.code) {
    case Code::kOk:
      return "no error";
    case Code::kHeaderTooShort:
      return "header needs " + expected + " bytes, file has " + found;
    case Code::kFileTooShort:
      return "file too short: " + segment + " ends at byte " + expected + ", the file at byte " +
             found;
    case Code::kWrongSize:
      return "plan needs " + expected + " bytes, file has " + found;
    case Code::kBadSegment:
      return segment + " does not describe an array";
    case Code::kWrongRank:
      return "variable of " + segment + " has " + found + " axes, plan needs " + expected;
    case Code::kWrongShape:
      return "variable of " + segment + " has " + found + " elements in axis " +
             std::to_string(error.axis) + ", plan needs " + expected;
    case Code::kWrongDtype:
      return "variable of " + segment + " is " + dtype_name(error.found) + ", plan needs " +
             dtype_name(error.expected);
    case Code::kUninitialized:
      return "variable of " + segment + " is not initialized";
    case Code::kShared:
      return segment + " and segment " + expected + " go into the same variable";
    case Code::kNonfinite:
      return segment + " has " + found + " NaN or infinite numbers in " +
             range(error.offset, error.end);
    case Code::kHuge:
      return segment + " has " + found + " numbers of 1e30 or more in " +
             range(error.offset, error.end);
    case Code::kNegativeVariance:
      return "moving_variance of " + segment + " has " + found + " negative numbers in " +
             range(error.offset, error.end);
    case Code::kZeros:
      return segment + " is all zeros in " + range(error.offset, error.end);
    case Code::kRepeated:
      return segment + " repeats " + range(error.expected, error.found) + " in " +
             range(error.offset, error.end);
  }
  return "unknown error";
}

}  // namespace yolotf
