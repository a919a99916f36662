#include "detect/fit.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/parallel.h"
#include "base/product.h"

namespace yolotf {
namespace {

constexpr float kGround = 0.5F;
constexpr std::int64_t kTaskFloats = 1 << 16;  // of the input; fewer are not worth a thread

// The two rows or columns of an image between which a row or column of the result lies.
struct Between {
  std::int64_t lower = 0;
  std::int64_t upper = 0;
  float share = 0;  // of the upper one
  // OpenCV's weights of the two: in units of 1/2048, with a sum that may be off by one, or of 1/256
  // if exact.
  std::int32_t lower_part = 0;
  std::int32_t upper_part = 0;
};

constexpr int kPartBits = 11;                 // INTER_RESIZE_COEF_BITS
constexpr std::int32_t kExactWhole = 1 << 8;  // ufixedpoint16

// cv::resize with INTER_LINEAR, or INTER_LINEAR_EXACT (resize.cpp, interpolationLinear): half-pixel
// centers, edges clamped.
template <bool kExact>
std::vector<Between> opencv_places(std::int64_t from, std::int64_t to) {
  using Real = std::conditional_t<kExact, double, float>;
  constexpr Real kWhole = kExact ? kExactWhole : 1 << kPartBits;
  const double scale = 1.0 / (static_cast<double>(to) / static_cast<double>(from));
  std::vector<Between> found(static_cast<std::size_t>(to));
  for (std::int64_t i = 0; i < to; ++i) {
    const auto place = static_cast<Real>((static_cast<double>(i) + 0.5) * scale - 0.5);
    const Real floor = std::floor(place);
    const auto lower = static_cast<std::int64_t>(floor);
    Between& one = found[static_cast<std::size_t>(i)];
    one.lower = std::clamp<std::int64_t>(lower, 0, from - 1);
    one.upper = std::min(one.lower + 1, from - 1);
    const Real share = lower < 0 || lower >= from - 1 ? Real{0} : place - floor;
    one.share = static_cast<float>(share);
    one.upper_part = static_cast<std::int32_t>(std::lrint(share * kWhole));
    one.lower_part = kExact ? kExactWhole - one.upper_part
                            : static_cast<std::int32_t>(std::lrint((Real{1} - share) * kWhole));
  }
  return found;
}

// In float32, as in TensorFlow's ResizeBilinear.
std::vector<Between> darknet_places(std::int64_t from, std::int64_t to) {
  const float scale = to > 1 ? static_cast<float>(from - 1) / static_cast<float>(to - 1) : 0.0F;
  std::vector<Between> found(static_cast<std::size_t>(to));
  for (std::int64_t i = 0; i < to; ++i) {
    const float place = static_cast<float>(i) * scale;
    const float floor = std::floor(place);
    Between& one = found[static_cast<std::size_t>(i)];
    one.lower = std::min(static_cast<std::int64_t>(floor), from - 1);
    one.upper = std::min(static_cast<std::int64_t>(std::ceil(place)), from - 1);
    one.share = place - floor;
  }
  return found;
}

std::vector<Between> places(std::int64_t from, std::int64_t to, Resize resize) {
  switch (resize) {
    case Resize::kOpenCv:
      return opencv_places<false>(from, to);
    case Resize::kOpenCvExact:
      return opencv_places<true>(from, to);
    case Resize::kDarknet:
      break;
  }
  return darknet_places(from, to);
}

// Resizes an image into its part of the input.
class Fitting {
 public:
  Fitting(const Picture& picture, std::int64_t height, std::int64_t width, std::int64_t channels,
          float* out, Resize resize)
      : picture_(picture),
        height_(height),
        width_(width),
        channels_(channels),
        out_(out),
        top_((height - picture.inner_height) / 2),
        left_((width - picture.inner_width) / 2),
        resize_(resize),
        rows_(places(picture.height, picture.inner_height, resize)),
        columns_(places(picture.width, picture.inner_width, resize)) {}

  std::int64_t height() const noexcept { return height_; }

  // Writes rows `begin` to `end` of the input.
  void write(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t row = begin; row < end; ++row) {
      float* line = out_ + row * width_ * channels_;
      const std::int64_t inner = row - top_;
      if (inner < 0 || inner >= picture_.inner_height) {
        std::fill(line, line + width_ * channels_, kGround);
        continue;
      }
      float* first = line + left_ * channels_;
      float* last = first + picture_.inner_width * channels_;
      std::fill(line, first, kGround);
      std::fill(last, line + width_ * channels_, kGround);
      if (picture_.bytes) {
        resize(static_cast<const std::uint8_t*>(picture_.pixels), inner, first);
        for (float* value = first; value != last; ++value) {
          *value /= 255.0F;
        }
      } else {
        resize(static_cast<const float*>(picture_.pixels), inner, first);
      }
    }
  }

 private:
  template <typename Value>
  void resize(const Value* pixels, std::int64_t inner, float* out) const {
    const Between& row = rows_[static_cast<std::size_t>(inner)];
    const Value* upper = pixels + row.lower * picture_.width * channels_;
    if (picture_.height == picture_.inner_height && picture_.width == picture_.inner_width) {
      std::copy(upper, upper + picture_.width * channels_, out);
      return;
    }
    const Value* lower = pixels + row.upper * picture_.width * channels_;
    if constexpr (std::is_same_v<Value, std::uint8_t>) {
      if (resize_ == Resize::kOpenCv) {
        blend_bytes<false>(upper, lower, row, out);
        return;
      }
      if (resize_ == Resize::kOpenCvExact) {
        blend_bytes<true>(upper, lower, row, out);
        return;
      }
    }
    if (channels_ == 3) {
      blend<Value, 3>(upper, lower, row.share, out);
    } else {
      blend<Value, 0>(upper, lower, row.share, out);
    }
  }

  template <bool kExact>
  void blend_bytes(const std::uint8_t* upper, const std::uint8_t* lower, const Between& row,
                   float* out) const {
    if (channels_ == 3) {
      blend_bytes<kExact, 3>(upper, lower, row, out);
    } else {
      blend_bytes<kExact, 0>(upper, lower, row, out);
    }
  }

  template <bool kExact, int kChannels>
  void blend_bytes(const std::uint8_t* upper, const std::uint8_t* lower, const Between& row,
                   float* out) const {
    const std::int64_t channels = kChannels == 0 ? channels_ : kChannels;
    for (const Between& column : columns_) {
      const std::int64_t left = column.lower * channels;
      const std::int64_t right = column.upper * channels;
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::int32_t above =
            upper[left + c] * column.lower_part + upper[right + c] * column.upper_part;
        const std::int32_t below =
            lower[left + c] * column.lower_part + lower[right + c] * column.upper_part;
        std::int32_t level;
        if constexpr (kExact) {  // 16 fractional bits, rounded half up (vlineResize)
          level = (above * row.lower_part + below * row.upper_part + (1 << 15)) >> 16;
        } else {  // drops bits before adding (VResizeLinear of bytes)
          level = (((row.lower_part * (above >> 4)) >> 16) +
                   ((row.upper_part * (below >> 4)) >> 16) + 2) >>
                  2;
        }
        *out++ = static_cast<float>(level);
      }
    }
  }

  // kChannels: the number of channels if known at compile time, else 0.
  template <typename Value, int kChannels>
  void blend(const Value* upper, const Value* lower, float down, float* out) const {
    const std::int64_t channels = kChannels == 0 ? channels_ : kChannels;
    for (const Between& column : columns_) {
      const std::int64_t left = column.lower * channels;
      const std::int64_t right = column.upper * channels;
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto a = static_cast<float>(upper[left + c]);
        const auto b = static_cast<float>(lower[left + c]);
        const float above = a + (static_cast<float>(upper[right + c]) - a) * column.share;
        const float below = b + (static_cast<float>(lower[right + c]) - b) * column.share;
        *out++ = above + (below - above) * down;
      }
    }
  }

  const Picture& picture_;
  std::int64_t height_;
  std::int64_t width_;
  std::int64_t channels_;
  float* out_;
  std::int64_t top_;
  std::int64_t left_;
  Resize resize_;
  std::vector<Between> rows_;
  std::vector<Between> columns_;
};

}  // namespace

std::int64_t input_floats(std::int64_t count, std::int64_t height, std::int64_t width,
                          std::int64_t channels) noexcept {
  constexpr std::int64_t kMost = std::int64_t{1} << 60;
  const std::int64_t floats = product(product(count, height), product(width, channels));
  return floats <= kMost ? floats : -1;
}

void fit(const std::vector<Picture>& pictures, std::int64_t height, std::int64_t width,
         std::int64_t channels, float* out, int threads, Resize resize) {
  std::vector<Fitting> fittings;
  fittings.reserve(pictures.size());
  for (const Picture& picture : pictures) {
    fittings.emplace_back(picture, height, width, channels, out, resize);
    out += height * width * channels;
  }
  const std::int64_t rows = std::max<std::int64_t>(1, kTaskFloats / (width * channels));
  const std::int64_t parts = (height + rows - 1) / rows;
  run_tasks(fittings.size() * static_cast<std::size_t>(parts), threads, [&](std::size_t task) {
    const std::int64_t begin = static_cast<std::int64_t>(task) % parts * rows;
    fittings[task / static_cast<std::size_t>(parts)].write(begin, std::min(begin + rows, height));
  });
}

}  // namespace yolotf
