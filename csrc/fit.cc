#include "fit.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"

namespace yolotf {
namespace {

constexpr float kGround = 0.5F;
constexpr std::int64_t kTaskFloats = 1 << 16;  // of the input; less is not worth a thread

// Between which two rows or columns of a picture one of the result lies.
struct Between {
  std::int64_t lower = 0;
  std::int64_t upper = 0;
  float share = 0;  // of the upper one
};

// In float32, as TensorFlow's ResizeBilinear has it.
std::vector<Between> places(std::int64_t from, std::int64_t to) {
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

// One picture's way into its part of the input.
class Fitting {
 public:
  Fitting(const Picture& picture, std::int64_t height, std::int64_t width, std::int64_t channels,
          float* out)
      : picture_(picture),
        height_(height),
        width_(width),
        channels_(channels),
        out_(out),
        top_((height - picture.inner_height) / 2),
        left_((width - picture.inner_width) / 2),
        rows_(places(picture.height, picture.inner_height)),
        columns_(places(picture.width, picture.inner_width)) {}

  std::int64_t height() const noexcept { return height_; }

  // Rows of the input.
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
    if (channels_ == 3) {
      blend<Value, 3>(upper, lower, row.share, out);
    } else {
      blend<Value, 0>(upper, lower, row.share, out);
    }
  }

  // kChannels: known to the compiler, or 0.
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
  std::vector<Between> rows_;
  std::vector<Between> columns_;
};

}  // namespace

void fit(const std::vector<Picture>& pictures, std::int64_t height, std::int64_t width,
         std::int64_t channels, float* out, int threads) {
  std::vector<Fitting> fittings;
  fittings.reserve(pictures.size());
  for (const Picture& picture : pictures) {
    fittings.emplace_back(picture, height, width, channels, out);
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
