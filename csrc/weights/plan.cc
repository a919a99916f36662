#include "weights/plan.h"

#include <algorithm>
#include <limits>

namespace yolotf {

std::vector<Segment> segments_from_rows(const std::int64_t* rows, std::int64_t row_count) {
  std::vector<Segment> segments;
  segments.reserve(static_cast<std::size_t>(row_count));
  for (std::int64_t i = 0; i < row_count; ++i, rows += kPlanColumns) {
    Segment segment;
    segment.offset = static_cast<std::uint64_t>(rows[0]);
    segment.norm_offset = static_cast<std::uint64_t>(rows[1]);
    segment.blocks = static_cast<std::uint64_t>(rows[2]);
    segment.filters = static_cast<std::uint64_t>(rows[3]);
    segment.channels = static_cast<std::uint64_t>(rows[4]);
    segment.spatial = static_cast<std::uint64_t>(rows[5]);
    segment.role = static_cast<Role>(rows[6]);
    segment.rank = rows[7] < 0 || rows[7] > kMaxRank ? -1 : static_cast<int>(rows[7]);
    for (int axis = 0; axis < kMaxRank; ++axis) {
      segment.shape[axis] = static_cast<std::uint64_t>(rows[8 + axis]);
    }
    segments.push_back(segment);
  }
  return segments;
}

SegmentArrays arrays_of(const Segment& segment, std::int64_t index) noexcept {
  const bool folds = segment.norm_offset != 0;
  Role role = segment.role;
  if (folds && role != Role::kKernel) {  // the variable's role, whose array in the file has another
    role = role == Role::kScale ? Role::kGamma : Role::kBeta;
  }
  const std::uint64_t filter_floats =
      role == Role::kKernel ? segment.channels * segment.spatial : 1;
  SegmentArrays result;
  result.arrays[0] = {segment.offset, segment.count(), filter_floats, role, index};
  if (folds) {
    constexpr Role kRoles[] = {Role::kGamma, Role::kMovingMean, Role::kMovingVariance};
    const std::uint64_t filters = segment.all_filters();
    for (std::uint64_t i = 0; i < kNormArrays; ++i) {
      result.arrays[result.count++] = {segment.norm_offset + kFloatBytes * filters * i, filters, 1,
                                       kRoles[i], index};
    }
  }
  return result;
}

std::uint64_t end_offset(const Segment& segment) noexcept {
  std::uint64_t end = 0;
  for (const Array& array : arrays_of(segment, 0)) {
    end = std::max(end, array.end());
  }
  return end;
}

std::uint64_t element_bytes(Dtype dtype) noexcept {
  switch (dtype) {
    case Dtype::kFloat32:
      return 4;
    case Dtype::kFloat16:
    case Dtype::kBfloat16:
      return 2;
    case Dtype::kOther:
      break;
  }
  return 0;
}

bool check_segments(const std::vector<Segment>& segments, std::uint64_t header_bytes,
                    std::int64_t expected_bytes, std::uint64_t file_bytes, Error* error) noexcept {
  Array truncated;  // the first array that the file does not hold completely
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const auto index = static_cast<std::int64_t>(i);
    std::uint64_t count = 0;
    std::uint64_t size_bytes = 0;
    std::uint64_t variable_count = 1;
    bool valid = segment.role >= Role::kBias && segment.role <= Role::kScale && segment.rank >= 0 &&
                 segment.rank <= kMaxRank && checked_mul(segment.blocks, segment.filters, &count) &&
                 checked_mul(count, segment.channels, &count) &&
                 checked_mul(count, segment.spatial, &count) &&
                 checked_mul(count, kFloatBytes, &size_bytes) && count > 0 &&
                 segment.offset >= header_bytes &&
                 size_bytes <= std::numeric_limits<std::uint64_t>::max() - segment.offset;
    for (int axis = 0; valid && axis < segment.rank; ++axis) {
      valid = checked_mul(variable_count, segment.shape[axis], &variable_count);
    }
    if (!valid || variable_count != count) {
      return fail(error, Code::kBadSegment, index, count, variable_count);
    }
    if (segment.norm_offset != 0) {
      const bool can_fold = segment.role == Role::kKernel || segment.filters == count;
      std::uint64_t norm_bytes = 0;
      if (!can_fold || segment.norm_offset < header_bytes ||
          !checked_mul(kNormArrays * kFloatBytes, segment.all_filters(), &norm_bytes) ||
          segment.norm_offset > std::numeric_limits<std::uint64_t>::max() - norm_bytes) {
        return fail(error, Code::kBadSegment, index, count, variable_count);
      }
    }
    for (const Array& array : arrays_of(segment, index)) {
      if (array.end() > file_bytes && (truncated.segment < 0 || array.offset < truncated.offset)) {
        truncated = array;
      }
    }
  }
  if (truncated.segment >= 0) {
    fail(error, Code::kFileTooShort, truncated.segment, truncated.end(), file_bytes);
    error->role = static_cast<std::int64_t>(truncated.role);
    error->offset = truncated.offset;
    error->end = truncated.end();
    return false;
  }
  if (expected_bytes >= 0 && static_cast<std::uint64_t>(expected_bytes) != file_bytes) {
    return fail(error, Code::kWrongSize, -1, static_cast<std::uint64_t>(expected_bytes),
                file_bytes);
  }
  return true;
}

bool check_target(const Segment& segment, std::int64_t index, const Target& target, bool cast,
                  Error* error) noexcept {
  if (!target.initialized) {
    return fail(error, Code::kUninitialized, index, 0, 0);
  }
  const bool castable = target.dtype == Dtype::kFloat16 || target.dtype == Dtype::kBfloat16;
  if (target.dtype != Dtype::kFloat32 && !(cast && castable)) {
    return fail(error, Code::kWrongDtype, index, static_cast<std::uint64_t>(Dtype::kFloat32),
                static_cast<std::uint64_t>(target.dtype));
  }
  if (target.rank != segment.rank) {
    return fail(error, Code::kWrongRank, index, static_cast<std::uint64_t>(segment.rank),
                static_cast<std::uint64_t>(target.rank));
  }
  for (int axis = 0; axis < segment.rank; ++axis) {
    if (target.shape[axis] != segment.shape[axis]) {
      fail(error, Code::kWrongShape, index, segment.shape[axis], target.shape[axis]);
      error->axis = axis;
      return false;
    }
  }
  return true;
}

}  // namespace yolotf
