#include "weights.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define YOLOTF_AVX2 1
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace yolotf {
namespace {

constexpr std::uint64_t kNormRuns = 3;  // gamma, mean, variance
constexpr double kEpsilon = 1e-5;       // blas.c:292

static_assert(sizeof(float) == 4 && std::numeric_limits<float>::is_iec559);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error ".weights files are little-endian and are copied as they are"
#endif

template <typename T>
T load(const std::byte* bytes) noexcept {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

bool checked_mul(std::uint64_t a, std::uint64_t b, std::uint64_t* product) noexcept {
  if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) {
    return false;
  }
  *product = a * b;
  return true;
}

bool fail(Error* error, Code code, std::int64_t segment, std::uint64_t expected,
          std::uint64_t found) noexcept {
  *error = Error{};
  error->code = code;
  error->segment = segment;
  error->expected = expected;
  error->found = found;
  return false;
}

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
  return "another dtype";
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
      return "too short: " + segment + " ends at byte " + expected + ", file at " + found;
    case Code::kWrongSize:
      return "plan needs " + expected + " bytes, file has " + found;
    case Code::kBadSegment:
      return segment + " does not describe an array";
    case Code::kWrongRank:
      return "variable of " + segment + " has " + found + " axes, plan wants " + expected;
    case Code::kWrongShape:
      return "variable of " + segment + " is " + found + " long in axis " +
             std::to_string(error.axis) + ", plan wants " + expected;
    case Code::kWrongDtype:
      return "variable of " + segment + " is " + dtype_name(error.found) + ", plan wants " +
             dtype_name(error.expected);
    case Code::kUninitialized:
      return "variable of " + segment + " is not initialized";
    case Code::kBadVariance:
      return "moving_variance of " + segment + " is negative or not finite at byte " +
             std::to_string(error.offset);
    case Code::kShared:
      return segment + " and segment " + expected + " have the same variable";
  }
  return "unknown error";
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

std::uint64_t end_of(const Segment& segment) noexcept {
  const std::uint64_t end = segment.offset + kFloatBytes * segment.count();
  const std::uint64_t norm_bytes = kNormRuns * kFloatBytes * segment.all_filters();
  return segment.norm_offset == 0 ? end : std::max(end, segment.norm_offset + norm_bytes);
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
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const auto index = static_cast<std::int64_t>(i);
    std::uint64_t count = 0;
    std::uint64_t size_bytes = 0;
    std::uint64_t in_variable = 1;
    bool sound = segment.rank >= 0 && segment.rank <= kMaxRank &&
                 checked_mul(segment.blocks, segment.filters, &count) &&
                 checked_mul(count, segment.channels, &count) &&
                 checked_mul(count, segment.spatial, &count) &&
                 checked_mul(count, kFloatBytes, &size_bytes) && count > 0 &&
                 segment.offset >= header_bytes &&
                 size_bytes <= std::numeric_limits<std::uint64_t>::max() - segment.offset;
    for (int axis = 0; sound && axis < segment.rank; ++axis) {
      sound = checked_mul(in_variable, segment.shape[axis], &in_variable);
    }
    if (!sound || in_variable != count) {
      return fail(error, Code::kBadSegment, index, count, in_variable);
    }
    const std::uint64_t end = segment.offset + size_bytes;
    if (end > file_bytes) {
      return fail(error, Code::kFileTooShort, index, end, file_bytes);
    }
    if (segment.norm_offset != 0) {
      const bool takes_it = segment.role == Role::kKernel || segment.filters == count;
      std::uint64_t norm_bytes = 0;
      if (!takes_it || segment.norm_offset < header_bytes ||
          !checked_mul(kNormRuns * kFloatBytes, segment.all_filters(), &norm_bytes) ||
          segment.norm_offset > std::numeric_limits<std::uint64_t>::max() - norm_bytes) {
        return fail(error, Code::kBadSegment, index, count, in_variable);
      }
      if (segment.norm_offset + norm_bytes > file_bytes) {
        return fail(error, Code::kFileTooShort, index, segment.norm_offset + norm_bytes,
                    file_bytes);
      }
    }
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

bool check_variance(const std::byte* bytes, const Segment& segment, std::int64_t index,
                    Error* error) noexcept {
  std::uint64_t begin = segment.offset;
  std::uint64_t count = segment.count();
  if (segment.norm_offset != 0) {
    begin = segment.norm_offset + 2 * kFloatBytes * segment.all_filters();
    count = segment.all_filters();
  } else if (segment.role != Role::kMovingVariance) {
    return true;
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t offset = begin + kFloatBytes * i;
    // By its bits: where subnormal numbers are taken for zero, a negative one would not be seen.
    const auto bits = load<std::uint32_t>(bytes + offset);
    if (bits >= 0x7f800000U && bits != 0x80000000U) {
      fail(error, Code::kBadVariance, index, 0, 0);
      error->offset = offset;
      return false;
    }
  }
  return true;
}

namespace {

// One cache line of float32s: kernels are transposed by this many filters at a time, so that
// whole lines are written, past the cache where the address allows.
constexpr std::uint64_t kPanel = 16;
constexpr std::uint64_t kCopyFloats = 64 * 1024;

// The batch normalization to fold into the filters of a block, or none of it.
class Fold {
 public:
  Fold(const std::byte* bytes, const Segment& segment, std::uint64_t block) noexcept
      : norm_(segment.norm_offset == 0
                  ? nullptr
                  : bytes + segment.norm_offset + kFloatBytes * block * segment.filters),
        run_(segment.all_filters()) {}

  explicit operator bool() const noexcept { return norm_ != nullptr; }

  double scale(std::uint64_t filter) const noexcept {
    return number(0, filter) / std::sqrt(number(2, filter) + kEpsilon);
  }

  float bias(std::uint64_t filter, float beta) const noexcept {
    return static_cast<float>(static_cast<double>(beta) - number(1, filter) * scale(filter));
  }

 private:
  double number(std::uint64_t run, std::uint64_t filter) const noexcept {
    return static_cast<double>(load<float>(norm_ + kFloatBytes * (run * run_ + filter)));
  }

  const std::byte* norm_;
  std::uint64_t run_;
};

bool is_copy(const Segment& segment) noexcept {
  if (segment.norm_offset != 0 && segment.role == Role::kKernel) {
    return false;
  }
  return segment.filters == 1 ? segment.spatial == 1 || segment.channels == 1
                              : segment.channels == 1 && segment.spatial == 1;
}

std::uint16_t to_float16(float value) noexcept {
  // Round to nearest even, as F16C does.
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) {
    return static_cast<std::uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
  }
  if (magnitude >= 0x477ff000U) {  // rounds to infinity
    return static_cast<std::uint16_t>(sign | 0x7c00U);
  }
  if (magnitude >= 0x38800000U) {  // normal
    const std::uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
  }
  if (magnitude < 0x33000000U) {  // below half of the smallest subnormal
    return sign;
  }
  const std::uint32_t shift = 126 - (magnitude >> 23);
  const std::uint32_t mantissa = (magnitude & 0x7fffffU) | 0x800000U;
  const std::uint32_t half = 1U << (shift - 1);
  const std::uint32_t rounded = mantissa + half - 1U + ((mantissa >> shift) & 1U);
  return static_cast<std::uint16_t>(sign | (rounded >> shift));
}

std::uint16_t to_bfloat16(float value) noexcept {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40U);  // stay a NaN
  }
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

template <Dtype dtype>
struct Element;
template <>
struct Element<Dtype::kFloat32> {
  using Type = float;
  static Type from(float value) noexcept { return value; }
};
template <>
struct Element<Dtype::kFloat16> {
  using Type = std::uint16_t;
  static Type from(float value) noexcept { return to_float16(value); }
};
template <>
struct Element<Dtype::kBfloat16> {
  using Type = std::uint16_t;
  static Type from(float value) noexcept { return to_bfloat16(value); }
};

template <Dtype dtype>
void copy_portable(const std::byte* source, void* destination, std::uint64_t begin,
                   std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  if constexpr (dtype == Dtype::kFloat32) {
    std::memcpy(out + begin, source + kFloatBytes * begin, kFloatBytes * (end - begin));
  } else {
    for (std::uint64_t i = begin; i < end; ++i) {
      out[i] = E::from(load<float>(source + kFloatBytes * i));
    }
  }
}

// A folded bias or scale; `filters` numbers.
template <Dtype dtype>
void fold_vector(const std::byte* source, const Segment& segment, const Fold& fold,
                 void* destination, std::uint64_t begin, std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  for (std::uint64_t i = begin; i < end; ++i) {
    out[i] =
        E::from(segment.role == Role::kScale ? static_cast<float>(fold.scale(i))
                                             : fold.bias(i, load<float>(source + kFloatBytes * i)));
  }
}

// Rows are filters, columns are [channels][spatial]; the row of the variable that takes a column.
class Rows {
 public:
  explicit Rows(const Segment& segment) noexcept
      : channels_(segment.channels), spatial_(segment.spatial) {}

  std::uint64_t next() noexcept {
    const std::uint64_t row = position_ * channels_ + channel_;
    if (++position_ == spatial_) {
      position_ = 0;
      ++channel_;
    }
    return row;
  }

 private:
  std::uint64_t channels_;
  std::uint64_t spatial_;
  std::uint64_t channel_ = 0;
  std::uint64_t position_ = 0;
};

// What the filters of a panel are multiplied by.
struct PanelScale {
  PanelScale(const Fold& fold, std::uint64_t begin, std::uint64_t end) noexcept {
    for (std::uint64_t filter = begin; filter < end; ++filter) {
      values[filter - begin] = fold ? static_cast<float>(fold.scale(filter)) : 1.0F;
    }
  }
  float values[kPanel];
};

// Not even times 1 without a fold: TensorFlow's threads take subnormal numbers for zero.
template <bool kFold>
float scaled(float value, float scale) noexcept {
  return kFold ? value * scale : value;
}

template <Dtype dtype, bool kFold>
void transpose_portable(const std::byte* source, const Segment& segment, const Fold& fold,
                        void* destination, std::uint64_t begin, std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  const std::uint64_t columns = segment.channels * segment.spatial;
  for (std::uint64_t panel = begin; panel < end; panel += kPanel) {
    const std::uint64_t panel_end = std::min(end, panel + kPanel);
    const PanelScale scale(fold, panel, panel_end);
    Rows rows(segment);
    for (std::uint64_t column = 0; column < columns; ++column) {
      auto* row = out + rows.next() * segment.filters;
      for (std::uint64_t filter = panel; filter < panel_end; ++filter) {
        const auto value = load<float>(source + kFloatBytes * (filter * columns + column));
        row[filter] = E::from(scaled<kFold>(value, scale.values[filter - panel]));
      }
    }
  }
}

#if YOLOTF_AVX2

#define YOLOTF_TARGET __attribute__((target("avx2,f16c")))

YOLOTF_TARGET inline __m256 load8(const std::byte* bytes) noexcept {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(bytes));
}

// lines[i] becomes column i of the 8 rows at `source`, `stride` bytes apart.
YOLOTF_TARGET inline void transpose8(const std::byte* source, std::uint64_t stride,
                                     __m256* lines) noexcept {
  const __m256 a0 = load8(source);
  const __m256 a1 = load8(source + stride);
  const __m256 a2 = load8(source + 2 * stride);
  const __m256 a3 = load8(source + 3 * stride);
  const __m256 a4 = load8(source + 4 * stride);
  const __m256 a5 = load8(source + 5 * stride);
  const __m256 a6 = load8(source + 6 * stride);
  const __m256 a7 = load8(source + 7 * stride);
  const __m256 b0 = _mm256_unpacklo_ps(a0, a1);
  const __m256 b1 = _mm256_unpackhi_ps(a0, a1);
  const __m256 b2 = _mm256_unpacklo_ps(a2, a3);
  const __m256 b3 = _mm256_unpackhi_ps(a2, a3);
  const __m256 b4 = _mm256_unpacklo_ps(a4, a5);
  const __m256 b5 = _mm256_unpackhi_ps(a4, a5);
  const __m256 b6 = _mm256_unpacklo_ps(a6, a7);
  const __m256 b7 = _mm256_unpackhi_ps(a6, a7);
  const __m256 c0 = _mm256_shuffle_ps(b0, b2, 0x44);
  const __m256 c1 = _mm256_shuffle_ps(b0, b2, 0xee);
  const __m256 c2 = _mm256_shuffle_ps(b1, b3, 0x44);
  const __m256 c3 = _mm256_shuffle_ps(b1, b3, 0xee);
  const __m256 c4 = _mm256_shuffle_ps(b4, b6, 0x44);
  const __m256 c5 = _mm256_shuffle_ps(b4, b6, 0xee);
  const __m256 c6 = _mm256_shuffle_ps(b5, b7, 0x44);
  const __m256 c7 = _mm256_shuffle_ps(b5, b7, 0xee);
  lines[0] = _mm256_permute2f128_ps(c0, c4, 0x20);
  lines[1] = _mm256_permute2f128_ps(c1, c5, 0x20);
  lines[2] = _mm256_permute2f128_ps(c2, c6, 0x20);
  lines[3] = _mm256_permute2f128_ps(c3, c7, 0x20);
  lines[4] = _mm256_permute2f128_ps(c0, c4, 0x31);
  lines[5] = _mm256_permute2f128_ps(c1, c5, 0x31);
  lines[6] = _mm256_permute2f128_ps(c2, c6, 0x31);
  lines[7] = _mm256_permute2f128_ps(c3, c7, 0x31);
}

// Writes 16 numbers; `line` is aligned to 32 bytes if kStream.
template <Dtype dtype, bool kStream>
YOLOTF_TARGET inline void store16(typename Element<dtype>::Type* line, __m256 low,
                                  __m256 high) noexcept {
  if constexpr (dtype == Dtype::kFloat32) {
    if constexpr (kStream) {
      _mm256_stream_ps(line, low);
      _mm256_stream_ps(line + 8, high);
    } else {
      _mm256_storeu_ps(line, low);
      _mm256_storeu_ps(line + 8, high);
    }
  } else if constexpr (dtype == Dtype::kFloat16) {
    auto* out = reinterpret_cast<__m128i*>(line);
    _mm_storeu_si128(out, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(out + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
  } else {
    float values[kPanel];
    _mm256_storeu_ps(values, low);
    _mm256_storeu_ps(values + 8, high);
    for (std::uint64_t i = 0; i < kPanel; ++i) {
      line[i] = to_bfloat16(values[i]);
    }
  }
}

template <Dtype dtype, bool kStream, bool kFold>
YOLOTF_TARGET void transpose_panels(const std::byte* source, const Segment& segment,
                                    const Fold& fold, void* destination, std::uint64_t begin,
                                    std::uint64_t end) noexcept {
  using E = Element<dtype>;
  auto* out = static_cast<typename E::Type*>(destination);
  const std::uint64_t columns = segment.channels * segment.spatial;
  std::uint64_t panel = begin;
  for (; panel + kPanel <= end; panel += kPanel) {
    const PanelScale scale(fold, panel, panel + kPanel);
    const __m256 scale_low = _mm256_loadu_ps(scale.values);
    const __m256 scale_high = _mm256_loadu_ps(scale.values + 8);
    Rows rows(segment);
    const std::byte* in = source + kFloatBytes * panel * columns;
    std::uint64_t column = 0;
    for (; column + 8 <= columns; column += 8) {
      __m256 low[8];
      __m256 high[8];
      transpose8(in + kFloatBytes * column, kFloatBytes * columns, low);
      transpose8(in + kFloatBytes * (8 * columns + column), kFloatBytes * columns, high);
      for (int i = 0; i < 8; ++i) {
        if constexpr (kFold) {
          low[i] = _mm256_mul_ps(low[i], scale_low);
          high[i] = _mm256_mul_ps(high[i], scale_high);
        }
        store16<dtype, kStream>(out + rows.next() * segment.filters + panel, low[i], high[i]);
      }
    }
    for (; column < columns; ++column) {
      auto* row = out + rows.next() * segment.filters + panel;
      for (std::uint64_t filter = 0; filter < kPanel; ++filter) {
        const auto value = load<float>(in + kFloatBytes * (filter * columns + column));
        row[filter] = E::from(scaled<kFold>(value, scale.values[filter]));
      }
    }
  }
  if (panel < end) {
    transpose_portable<dtype, kFold>(source, segment, fold, destination, panel, end);
  }
}

template <Dtype dtype, bool kFold>
YOLOTF_TARGET void transpose_avx2(const std::byte* source, const Segment& segment, const Fold& fold,
                                  void* destination, std::uint64_t begin,
                                  std::uint64_t end) noexcept {
  if constexpr (dtype == Dtype::kFloat32) {
    const bool lines = segment.filters % kPanel == 0 &&
                       reinterpret_cast<std::uintptr_t>(destination) % (4 * kPanel) == 0;
    if (lines) {
      transpose_panels<dtype, true, kFold>(source, segment, fold, destination, begin, end);
      _mm_sfence();
      return;
    }
  }
  transpose_panels<dtype, false, kFold>(source, segment, fold, destination, begin, end);
}

bool has_avx2() noexcept {
  unsigned eax, ebx, ecx, edx;  // __builtin_cpu_supports of older clangs does not know f16c
  return __builtin_cpu_supports("avx2") != 0 && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 &&
         (ecx & bit_F16C) != 0;
}

#else
bool has_avx2() noexcept { return false; }
#endif

std::atomic<bool>& use_avx2() noexcept {
  static std::atomic<bool> use{has_avx2()};
  return use;
}

template <Dtype dtype>
void scatter_as(const std::byte* source, const Segment& segment, const Fold& fold,
                void* destination, const Task& task) noexcept {
  if (fold && segment.role != Role::kKernel) {
    fold_vector<dtype>(source, segment, fold, destination, task.begin, task.end);
    return;
  }
  if (is_copy(segment)) {
    copy_portable<dtype>(source, destination, task.begin, task.end);
    return;
  }
#if YOLOTF_AVX2
  if (use_avx2().load(std::memory_order_relaxed)) {
    const auto transpose = fold ? transpose_avx2<dtype, true> : transpose_avx2<dtype, false>;
    transpose(source, segment, fold, destination, task.begin, task.end);
    return;
  }
#endif
  const auto transpose = fold ? transpose_portable<dtype, true> : transpose_portable<dtype, false>;
  transpose(source, segment, fold, destination, task.begin, task.end);
}

}  // namespace

std::vector<Task> split(const std::vector<Segment>& segments) {
  std::vector<Task> tasks;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const bool copy = is_copy(segment);
    const std::uint64_t columns = segment.channels * segment.spatial;
    const std::uint64_t blocks = copy ? 1 : segment.blocks;
    const std::uint64_t whole = copy ? segment.count() : segment.filters;
    const std::uint64_t step =
        copy ? kCopyFloats : kPanel * std::max<std::uint64_t>(1, kCopyFloats / (kPanel * columns));
    for (std::uint64_t block = 0; block < blocks; ++block) {
      for (std::uint64_t begin = 0; begin < whole; begin += step) {
        tasks.push_back(
            {static_cast<std::uint32_t>(i), block, begin, std::min(whole, begin + step)});
      }
    }
  }
  return tasks;
}

void scatter(const std::byte* bytes, const Segment& segment, const Target& target,
             const Task& task) noexcept {
  const std::uint64_t before = task.block * (segment.count() / segment.blocks);
  const std::byte* source = bytes + segment.offset + kFloatBytes * before;
  const Fold fold(bytes, segment, task.block);
  void* destination = static_cast<std::byte*>(target.data) + element_bytes(target.dtype) * before;
  switch (target.dtype) {
    case Dtype::kFloat32:
      scatter_as<Dtype::kFloat32>(source, segment, fold, destination, task);
      break;
    case Dtype::kFloat16:
      scatter_as<Dtype::kFloat16>(source, segment, fold, destination, task);
      break;
    case Dtype::kBfloat16:
      scatter_as<Dtype::kBfloat16>(source, segment, fold, destination, task);
      break;
    case Dtype::kOther:
      break;
  }
}

const char* scatter_isa() noexcept { return use_avx2().load() ? "avx2" : "portable"; }

void force_portable(bool portable) noexcept { use_avx2().store(!portable && has_avx2()); }

void add_stats(const std::byte* bytes, std::uint64_t count, Stats* stats) noexcept {
  // Eight lanes and no branches: compilers turn the inner loop into vector code.
  constexpr std::uint64_t kLanes = 8;
  constexpr std::uint64_t kBlock = 1024;
  const bool fresh = stats->count == stats->nonfinite;
  double minimum = fresh ? std::numeric_limits<double>::infinity() : stats->minimum;
  double maximum = fresh ? -std::numeric_limits<double>::infinity() : stats->maximum;
  double sums[kLanes] = {};
  double squares[kLanes] = {};
  for (std::uint64_t done = 0; done < count; done += kBlock) {
    float block[kBlock];
    const std::uint64_t size = std::min(kBlock, count - done);
    std::memcpy(block, bytes + kFloatBytes * done, kFloatBytes * size);
    // What pads the last block counts as nothing: it is left out of every number below.
    const std::uint64_t padded = (size + kLanes - 1) / kLanes * kLanes;
    std::fill(block + size, block + padded, std::numeric_limits<float>::quiet_NaN());
    std::uint32_t nonfinite[kLanes] = {};
    std::uint32_t negative[kLanes] = {};
    std::uint32_t zero[kLanes] = {};
    float low[kLanes];
    float high[kLanes];
    std::fill(low, low + kLanes, std::numeric_limits<float>::infinity());
    std::fill(high, high + kLanes, -std::numeric_limits<float>::infinity());
    for (std::uint64_t i = 0; i < padded; i += kLanes) {
      for (std::uint64_t lane = 0; lane < kLanes; ++lane) {
        const float value = block[i + lane];
        const bool finite = std::fabs(value) <= std::numeric_limits<float>::max();
        const double kept = finite ? static_cast<double>(value) : 0.0;
        nonfinite[lane] += finite ? 0U : 1U;
        negative[lane] += value < 0.0F ? 1U : 0U;
        zero[lane] += value == 0.0F ? 1U : 0U;
        low[lane] = finite && value < low[lane] ? value : low[lane];
        high[lane] = finite && value > high[lane] ? value : high[lane];
        sums[lane] += kept;
        squares[lane] += kept * kept;
      }
    }
    stats->nonfinite -= padded - size;
    for (std::uint64_t lane = 0; lane < kLanes; ++lane) {
      stats->nonfinite += nonfinite[lane];
      stats->negative += negative[lane];
      stats->zero += zero[lane];
      minimum = std::min(minimum, static_cast<double>(low[lane]));
      maximum = std::max(maximum, static_cast<double>(high[lane]));
    }
  }
  for (std::uint64_t lane = 0; lane < kLanes; ++lane) {
    stats->sum += sums[lane];
    stats->sum_of_squares += squares[lane];
  }
  stats->count += count;
  if (stats->count > stats->nonfinite) {
    stats->minimum = minimum;
    stats->maximum = maximum;
  }
}

}  // namespace yolotf
