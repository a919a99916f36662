// Raw heads -> detections, by Darknet's rules: decoding, thresholds, non-maximum suppression.
// The standard library, nothing else.
//
// Sources: AlexeyAB/darknet src/yolo_layer.c, gaussian_yolo_layer.c, region_layer.c,
// detection_layer.c, box.c, network.c, detector.c. The graph of standard operations that exported
// models hold (yolotf/graphs/decode.py) follows the same rules.
#ifndef YOLOTF_CSRC_DETECT_DECODE_H_
#define YOLOTF_CSRC_DETECT_DECODE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "detect/class_tree.h"

namespace yolotf {

enum class HeadKind : std::int64_t { kYolo = 0, kGaussianYolo = 1, kRegion = 2, kDetection = 3 };

// What a cfg says of one head.
struct HeadRule {
  HeadKind kind = HeadKind::kYolo;
  std::int64_t classes = 0;
  std::int64_t boxes = 0;   // of a cell: anchors in use, or num= of [detection]
  bool new_coords = false;  // [yolo], [Gaussian_yolo]
  bool softmax = false;     // [region], [detection]
  bool class_fix = false;   // classfix=-1 of [region]: objectness below 0.5 is none
  bool square = false;      // sqrt=1 of [detection]: sides are stored as their roots
  std::int64_t side = 0;    // [detection]: cells in a row
  float scale_x_y = 1;
  float point = 0;             // yolo_point of [Gaussian_yolo]: 0.5 left_top, -0.5 right_bottom
  std::vector<float> anchors;  // width, height of each; [region] in cells, else in pixels
  const ClassTree* tree = nullptr;  // of the classes of a [region], in place of its softmax
};

struct Extent {
  std::int64_t height = 0;
  std::int64_t width = 0;
};

// One head's input for a batch, [images, rows, columns, channels] without gaps.
struct RawHead {
  const float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t channels = 0;
};

enum class SuppressionKind : std::int64_t { kDefault = 0, kGreedyNms = 1, kDiouNms = 2 };

// The order of the detections of an image. Both Darknets sort all boxes once for each class by
// their scores in that class, the last class last, and `detector map` counts in that order, classes
// of one box by number.
enum class Order : std::int64_t {
  kScore = 0,     // best first
  kAlexeyAb = 1,  // box.c:812: by glibc's qsort, which is stable
  kHankAi = 2     // box.cpp:249: by std::sort, which is not; boxes by head, anchor, cell at first
};

struct DecodeOptions {
  Extent input;  // what the network saw; [yolo] anchors are relative to it
  float score = 0.25F;
  float iou = 0.45F;
  std::int64_t max_boxes = 300;
  SuppressionKind suppression = SuppressionKind::kDefault;
  float beta = 0.6F;        // exponent of the centre distance in diounms
  bool letter_box = false;  // images were fitted with their proportions kept
  bool agnostic = false;    // boxes of different classes exclude each other, too
  Order order = Order::kScore;
  std::vector<bool> unwanted;  // by class; none beyond its end
};

struct Detection {
  float left = 0;
  float top = 0;
  float right = 0;
  float bottom = 0;  // pixels of the image
  float score = 0;
  std::int32_t class_id = 0;
};

/// Floats of one image that `rule` takes from a grid of rows x columns; -1 if they are not to be
/// counted in 64 bits or `rule` is none (negative counts, anchors missing, another head's tree).
std::int64_t floats_of(const HeadRule& rule, std::int64_t rows, std::int64_t columns) noexcept;

/// Detections of one image, the best `max_boxes`, best first or as `order` says.
/// A pair of box and class counts if objectness and their product are above `score`; [region]
/// without softmax and [detection] look at the product only. With a class tree a box is of one
/// class, whose probability alone is its score. Of equal scores the one that comes first stays
/// first: by head, row, column, anchor, class. Sides that are not finite reach to the image's
/// edges. Safe for any numbers, NaN too; the heads must be as `floats_of` says.
/// rules, heads: as many of one as of the other; image: its number in the batch;
/// size: of the image, at least 1 x 1.
std::vector<Detection> detect(const std::vector<HeadRule>& rules, const std::vector<RawHead>& heads,
                              std::int64_t image, Extent size, const DecodeOptions& options);

/// `detect` for every image of a batch, on up to `threads` threads.
std::vector<std::vector<Detection>> detect_all(const std::vector<HeadRule>& rules,
                                               const std::vector<RawHead>& heads,
                                               const std::vector<Extent>& sizes,
                                               const DecodeOptions& options, int threads);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_DETECT_DECODE_H_
