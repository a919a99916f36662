// The boxes of raw heads: which of them have candidates, and where they are.
#ifndef YOLOTF_CSRC_DETECT_HEADS_H_
#define YOLOTF_CSRC_DETECT_HEADS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "detect/decode.h"

namespace yolotf {

// As in Darknet: center and sides, relative to the input or the image.
struct Box {
  float x = 0;
  float y = 0;
  float width = 0;
  float height = 0;
};

// A box whose score in a class is above the threshold.
struct Candidate {
  float score = 0;
  std::int32_t class_id = 0;
  std::size_t box = 0;  // index in Candidates::boxes
};

// Where a box is in the raw heads. Its sides are decoded only if its scores are high enough.
struct BoxIndex {
  std::size_t head = 0;
  std::int64_t index = 0;  // by row, column, anchor
};

struct Candidates {
  // Boxes that have a candidate. For Order::kHankAi, all with an objectness above the threshold.
  std::vector<BoxIndex> boxes;
  std::vector<Candidate> all;  // in Darknet's order: by box, then class
};

// Converts boxes relative to a letter-boxed input to boxes relative to the image
// (yolo_layer.c:939).
class LetterBox {
 public:
  LetterBox(ImageSize image, ImageSize input) noexcept
      : full_width_(static_cast<float>(input.width)),
        full_height_(static_cast<float>(input.height)) {
    const bool wide = full_width_ / static_cast<float>(image.width) <
                      full_height_ / static_cast<float>(image.height);
    const auto at_least_one = [](std::int64_t side) { return std::max<std::int64_t>(1, side); };
    width_ = static_cast<float>(wide ? input.width
                                     : at_least_one(image.width * input.height / image.height));
    height_ = static_cast<float>(wide ? at_least_one(image.height * input.width / image.width)
                                      : input.height);
  }

  void undo(Box* box) const noexcept {
    const float across = width_ / full_width_;
    const float down = height_ / full_height_;
    box->x = (box->x - (full_width_ - width_) / 2 / full_width_) / across;
    box->y = (box->y - (full_height_ - height_) / 2 / full_height_) / down;
    box->width /= across;
    box->height /= down;
  }

 private:
  float full_width_;
  float full_height_;
  float width_;
  float height_;
};

class Head;

// The heads of a network for one image.
class Heads {
 public:
  // See `detect`. The arguments must outlive the object.
  Heads(const std::vector<HeadRule>& rules, const std::vector<RawHead>& heads, std::int64_t image,
        ImageSize size, const DecodeOptions& options);
  ~Heads();
  Heads(const Heads&) = delete;
  Heads& operator=(const Heads&) = delete;

  Candidates candidates();

  // Decodes a box; relative to the image.
  Box box(const BoxIndex& index) const noexcept;

 private:
  std::vector<std::unique_ptr<Head>> heads_;
  LetterBox letter_box_;
  bool undo_letter_box_;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_DETECT_HEADS_H_
