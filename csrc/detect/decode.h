// Decodes raw heads to detections by Darknet's rules: boxes, thresholds, non-maximum suppression.
// Uses only the standard library.
//
// Sources: AlexeyAB/darknet src/yolo_layer.c, gaussian_yolo_layer.c, region_layer.c,
// detection_layer.c, box.c, network.c, detector.c. Exported models follow the same rules with
// standard operations (yolotf/graphs/decode.py).
#ifndef YOLOTF_CSRC_DETECT_DECODE_H_
#define YOLOTF_CSRC_DETECT_DECODE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "detect/class_tree.h"

namespace yolotf {

enum class HeadKind : std::int64_t { kYolo = 0, kGaussianYolo = 1, kRegion = 2, kDetection = 3 };
// The types of their sections.
constexpr std::array<const char*, 4> kHeadKinds = {"yolo", "Gaussian_yolo", "region", "detection"};

// How to decode a head: its section of the cfg.
struct HeadRule {
  HeadKind kind = HeadKind::kYolo;
  std::int64_t classes = 0;
  std::int64_t boxes = 0;   // of each cell: the anchors in use, or num= of [detection]
  bool new_coords = false;  // [yolo], [Gaussian_yolo]
  bool softmax = false;     // [region], [detection]
  bool class_fix = false;   // classfix=-1 of [region]: an objectness below 0.5 counts as 0
  bool sqrt_sides = false;  // sqrt=1 of [detection]: the square roots of the sides are stored
  std::int64_t side = 0;    // [detection]: the grid has side x side cells
  float scale_x_y = 1;
  // yolo_point of [Gaussian_yolo]: what to add to the decoded point to get the center, in sides of
  // the box. 0.5 for left_top, -0.5 for right_bottom.
  float center_shift = 0;
  std::vector<float> anchors;       // width and height of each; [region] in cells, else in pixels
  const ClassTree* tree = nullptr;  // [region]: replaces the softmax
};

struct ImageSize {
  std::int64_t height = 0;
  std::int64_t width = 0;
};

// The numbers of one head for a batch: [images, rows, columns, channels], contiguous.
struct RawHead {
  const float* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t channels = 0;
};

enum class SuppressionKind : std::int64_t { kDefault = 0, kGreedyNms = 1, kDiouNms = 2 };
// Their names in nms_kind=.
constexpr std::array<const char*, 3> kSuppressionKinds = {"default", "greedynms", "diounms"};

// The order of the detections of an image. `detector map` of both Darknets counts them in the order
// of their boxes, and those of a box by class. Both sort all boxes once for each class, by their
// score in that class, with the last class last.
enum class Order : std::int64_t {
  kScore = 0,     // best first
  kAlexeyAb = 1,  // box.c:812: with glibc's qsort, which is stable
  kHankAi = 2     // box.cpp:249: with std::sort, which is not, from the order head, anchor, cell
};
constexpr std::array<const char*, 3> kOrders = {"score", "alexeyab", "hank-ai"};

// The caller sets the first four; yolotf/darknet/detection_options.py has the defaults for users.
struct DecodeOptions {
  ImageSize input;  // of the network; [yolo] anchors are relative to it
  float score_threshold = 0;
  float iou_threshold = 0;
  std::int64_t max_boxes = 0;
  SuppressionKind suppression = SuppressionKind::kDefault;
  float beta = 0.6F;        // exponent of the center distance in diounms
  bool letter_box = false;  // images keep their proportions in the input
  bool agnostic = false;    // boxes also suppress boxes of other classes
  Order order = Order::kScore;
  std::vector<bool> unwanted;  // by class; classes past its end are wanted
};

struct Detection {
  float left = 0;
  float top = 0;
  float right = 0;
  float bottom = 0;  // pixels of the image
  float score = 0;
  std::int32_t class_id = 0;
};

/// Returns the number of floats that a head has for each image if its grid has rows x columns
/// cells. Returns -1 if that overflows or `rule` is invalid: negative counts, missing anchors, or a
/// tree of other classes.
std::int64_t floats_per_image(const HeadRule& rule, std::int64_t rows,
                              std::int64_t columns) noexcept;

/// Returns the detections of one image, the best `max_boxes`, in the order `options.order`.
///
/// A box is detected as a class if objectness times class probability is above `score_threshold`,
/// and so is the objectness itself, except for [region] without softmax and [detection]. With a
/// class tree, a box has only the class that the tree selects, and that class's probability as its
/// score. Detections with equal scores are ordered by head, row, column, anchor and class. Edges
/// that are not finite become the image's. Any numbers are safe, including NaN.
///
/// rules, heads: of the same length; heads must have the size that `floats_per_image` returns.
/// image: index in the batch. size: of the original image, at least 1 x 1.
std::vector<Detection> detect(const std::vector<HeadRule>& rules, const std::vector<RawHead>& heads,
                              std::int64_t image, ImageSize size, const DecodeOptions& options);

/// Calls `detect` for every image of a batch, on up to `threads` threads.
std::vector<std::vector<Detection>> detect_all(const std::vector<HeadRule>& rules,
                                               const std::vector<RawHead>& heads,
                                               const std::vector<ImageSize>& sizes,
                                               const DecodeOptions& options, int threads);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_DETECT_DECODE_H_
