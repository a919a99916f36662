// The part of the Python module yolotf._core that binds decode.h, class_tree.h and fit.h.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "detect/class_tree.h"
#include "detect/decode.h"
#include "detect/fit.h"
#include "python/without_gil.h"

namespace py = pybind11;

void bind_decode(py::module_& module);

namespace yolotf {
namespace {

using Int64Array = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;
using Float64Array = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Int32Out = py::array_t<std::int32_t>;
using Float32Out = py::array_t<float>;

// Columns of `heads`.
enum HeadColumn : py::ssize_t {
  kKind,
  kClasses,
  kBoxes,
  kNewCoords,
  kSoftmax,
  kClassFix,
  kSqrtSides,
  kSide,
  kHeadColumns
};
constexpr std::array<const char*, kHeadColumns> kHeadFields = {
    "kind", "classes", "boxes", "new_coords", "softmax", "class_fix", "sqrt", "side"};
// Columns of `numbers` before the anchors: scale_x_y and center_shift.
constexpr py::ssize_t kNumbersBeforeAnchors = 2;

bool is_contiguous_and_aligned(const py::array& array) {
  constexpr int kRequiredFlags = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  return (array.flags() & kRequiredFlags) == kRequiredFlags;
}

std::vector<HeadRule> to_rules(const Int64Array& heads, const Float64Array& numbers,
                               const ClassTree* tree) {
  if (heads.ndim() != 2 || heads.shape(1) != kHeadColumns || numbers.ndim() != 2 ||
      numbers.shape(0) != heads.shape(0) || numbers.shape(1) < kNumbersBeforeAnchors) {
    throw py::value_error("heads must be [heads, " + std::to_string(kHeadColumns) +
                          "], and numbers must have a row for each head");
  }
  std::vector<HeadRule> rules;
  for (py::ssize_t i = 0; i < heads.shape(0); ++i) {
    const std::int64_t* row = heads.data(i, 0);
    const double* number_row = numbers.data(i, 0);
    HeadRule rule;
    if (row[kKind] < 0 || row[kKind] > static_cast<std::int64_t>(HeadKind::kDetection)) {
      throw py::value_error("head " + std::to_string(i) + " has the unknown kind " +
                            std::to_string(row[kKind]));
    }
    rule.kind = static_cast<HeadKind>(row[kKind]);
    rule.classes = row[kClasses];
    rule.boxes = row[kBoxes];
    rule.new_coords = row[kNewCoords] != 0;
    rule.softmax = row[kSoftmax] != 0;
    rule.class_fix = row[kClassFix] != 0;
    rule.sqrt_sides = row[kSqrtSides] != 0;
    rule.side = row[kSide];
    rule.tree = tree;
    if (tree != nullptr && (rule.kind != HeadKind::kRegion || rule.classes != tree->classes())) {
      throw py::value_error("head " + std::to_string(i) + " is not a [region] of " +
                            std::to_string(tree->classes()) + " classes, as the class tree needs");
    }
    rule.scale_x_y = static_cast<float>(number_row[0]);
    rule.center_shift = static_cast<float>(number_row[1]);
    const py::ssize_t most_boxes = (numbers.shape(1) - kNumbersBeforeAnchors) / 2;
    if (rule.kind != HeadKind::kDetection && rule.boxes >= 0 && rule.boxes <= most_boxes) {
      const double* anchors = number_row + kNumbersBeforeAnchors;
      rule.anchors.assign(anchors, anchors + 2 * rule.boxes);
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

RawHead to_head(const py::array& raw, const HeadRule& rule, std::size_t index, std::size_t images) {
  const std::string name = "raw head " + std::to_string(index);
  if (!py::isinstance<py::array_t<float>>(raw) || !is_contiguous_and_aligned(raw)) {
    throw py::value_error(name + " must be float32, contiguous and aligned");
  }
  // A head after a [connected] section has no grid.
  const bool flat = raw.ndim() == 2;
  if (!flat && raw.ndim() != 4) {
    throw py::value_error(name + " must be [images, rows, columns, channels], but has " +
                          std::to_string(raw.ndim()) + " axes");
  }
  if (static_cast<std::size_t>(raw.shape(0)) != images) {
    throw py::value_error(name + " has " + std::to_string(raw.shape(0)) +
                          " images, image_sizes has " + std::to_string(images));
  }
  RawHead head;
  head.data = static_cast<const float*>(raw.data());
  head.rows = flat ? 1 : raw.shape(1);
  head.columns = flat ? 1 : raw.shape(2);
  head.channels = raw.shape(flat ? 1 : 3);
  const std::int64_t expected = floats_per_image(rule, head.rows, head.columns);
  const std::int64_t floats = head.rows * head.columns * head.channels;
  if (expected < 0) {
    throw py::value_error("head " + std::to_string(index) +
                          " has invalid classes, boxes, anchors or side");
  }
  if (floats != expected) {
    throw py::value_error(name + " has " + std::to_string(floats) +
                          " floats per image, its section needs " + std::to_string(expected));
  }
  return head;
}

ImageSize to_size(std::int64_t height, std::int64_t width, const char* name) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // a product of two fits in 64 bits
  if (height < 1 || width < 1 || height >= kMost || width >= kMost) {
    throw py::value_error(std::string(name) + " of " + std::to_string(height) + "x" +
                          std::to_string(width) + " pixels: both sides must be 1 to 2147483647");
  }
  return {height, width};
}

// Returns (boxes, scores, class ids, counts): the detections of all images, concatenated, and how
// many each image has.
py::tuple to_arrays(const std::vector<std::vector<Detection>>& images) {
  Int32Out counts(static_cast<py::ssize_t>(images.size()));
  py::ssize_t total = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    counts.mutable_data()[i] = static_cast<std::int32_t>(images[i].size());
    total += static_cast<py::ssize_t>(images[i].size());
  }
  Float32Out boxes(std::vector<py::ssize_t>{total, 4});
  Float32Out scores(total);
  Int32Out class_ids(total);
  float* box = boxes.mutable_data();
  float* score = scores.mutable_data();
  std::int32_t* class_id = class_ids.mutable_data();
  for (const std::vector<Detection>& image : images) {
    for (const Detection& detection : image) {
      *box++ = detection.left;
      *box++ = detection.top;
      *box++ = detection.right;
      *box++ = detection.bottom;
      *score++ = detection.score;
      *class_id++ = detection.class_id;
    }
  }
  return py::make_tuple(boxes, scores, class_ids, counts);
}

// Returns for each of `classes` classes whether it is among `class_ids`; empty if there are no ids.
std::vector<bool> class_mask(const std::vector<std::int64_t>& class_ids, std::int64_t classes) {
  std::vector<bool> mask;
  for (const std::int64_t class_id : class_ids) {
    mask.resize(static_cast<std::size_t>(classes));
    if (class_id >= 0 && class_id < classes) {
      mask[static_cast<std::size_t>(class_id)] = true;
    }
  }
  return mask;
}

py::tuple decode(const std::vector<py::array>& raws, const Int64Array& heads,
                 const Float64Array& numbers, std::pair<std::int64_t, std::int64_t> input_size,
                 const Int64Array& image_sizes, double score, double iou, std::int64_t max_boxes,
                 std::int64_t suppression, double beta, bool letter_box, bool agnostic,
                 const std::vector<std::int64_t>& unwanted, const std::shared_ptr<ClassTree>& tree,
                 int threads, std::int64_t order) {
  const std::vector<HeadRule> rules = to_rules(heads, numbers, tree.get());
  if (raws.size() != rules.size()) {
    throw py::value_error(std::to_string(raws.size()) + " raw outputs for " +
                          std::to_string(rules.size()) + " heads");
  }
  if (image_sizes.ndim() != 2 || image_sizes.shape(1) != 2) {
    throw py::value_error("image_sizes must be [images, 2]");
  }
  if (!(score >= 0 && score < 1) || !(iou >= 0 && iou < 1) || max_boxes < 1) {
    throw py::value_error(
        "score_threshold and iou_threshold must be at least 0 and below 1, max_boxes at least 1");
  }
  if (suppression < 0 || suppression > static_cast<std::int64_t>(SuppressionKind::kDiouNms)) {
    throw py::value_error("suppression must be 0 to 2");
  }
  if (order < 0 || order > static_cast<std::int64_t>(Order::kHankAi)) {
    throw py::value_error("order must be 0 to 2");
  }
  std::vector<ImageSize> sizes;
  for (py::ssize_t i = 0; i < image_sizes.shape(0); ++i) {
    sizes.push_back(to_size(image_sizes.at(i, 0), image_sizes.at(i, 1), "an image"));
  }
  std::vector<RawHead> raw_heads;
  std::int64_t classes = 0;
  for (std::size_t i = 0; i < raws.size(); ++i) {
    raw_heads.push_back(to_head(raws[i], rules[i], i, sizes.size()));
    classes = std::max(classes, rules[i].classes);
  }
  DecodeOptions options;
  options.input = to_size(input_size.first, input_size.second, "an input");
  options.score_threshold = static_cast<float>(score);
  options.iou_threshold = static_cast<float>(iou);
  options.max_boxes = max_boxes;
  options.suppression = static_cast<SuppressionKind>(suppression);
  options.beta = static_cast<float>(beta);
  options.letter_box = letter_box;
  options.agnostic = agnostic;
  options.order = static_cast<Order>(order);
  options.unwanted = class_mask(unwanted, classes);
  std::vector<std::vector<Detection>> detections;
  {
    const WithoutGil released;
    detections = detect_all(rules, raw_heads, sizes, options, threads);
  }
  return to_arrays(detections);
}

Image to_image(const py::array& array, std::int64_t channels) {
  const bool is_uint8 = array.dtype().kind() == 'u' && array.dtype().itemsize() == 1;
  if (!(is_uint8 || py::isinstance<py::array_t<float>>(array)) || array.ndim() != 3 ||
      array.shape(2) != channels || !is_contiguous_and_aligned(array)) {
    throw py::value_error("an image must be uint8 or float32 [height, width, " +
                          std::to_string(channels) + "], contiguous and aligned");
  }
  const ImageSize size = to_size(array.shape(0), array.shape(1), "an image");
  Image image;
  image.pixels = array.data();
  image.is_uint8 = is_uint8;
  image.height = size.height;
  image.width = size.width;
  return image;
}

Float32Out fit_images(const std::vector<py::array>& arrays,
                      std::tuple<std::int64_t, std::int64_t, std::int64_t> shape,
                      const std::vector<std::pair<std::int64_t, std::int64_t>>& inner, int threads,
                      bool opencv, bool exact) {
  const auto [height, width, channels] = shape;
  const ImageSize input = to_size(height, width, "an input");
  if (inner.size() != arrays.size()) {
    throw py::value_error(std::to_string(inner.size()) + " inner sizes for " +
                          std::to_string(arrays.size()) + " images");
  }
  if (channels < 1) {
    throw py::value_error("an input of " + std::to_string(channels) +
                          " channels: at least 1 is needed");
  }
  std::vector<Image> images;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    Image image = to_image(arrays[i], channels);
    const ImageSize size = to_size(inner[i].first, inner[i].second, "a resized image");
    if (size.height > input.height || size.width > input.width) {
      throw py::value_error("a resized image is larger than the input");
    }
    image.inner_height = size.height;
    image.inner_width = size.width;
    images.push_back(image);
  }
  // TensorFlow copies memory of a smaller alignment.
  constexpr std::size_t kAlignment = 64;
  const std::int64_t floats =
      input_floats(static_cast<std::int64_t>(images.size()), input.height, input.width, channels);
  if (floats < 0) {
    throw std::bad_alloc();
  }
  const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
  auto* memory = static_cast<float*>(
      std::aligned_alloc(kAlignment, (bytes + kAlignment) / kAlignment * kAlignment));
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  const py::capsule owner(memory, std::free);
  const std::vector<py::ssize_t> out_shape{static_cast<py::ssize_t>(images.size()), height, width,
                                           channels};
  Float32Out out(out_shape, memory, owner);
  {
    const WithoutGil released;
    fit(images, input.height, input.width, channels, memory, threads,
        exact    ? Resize::kOpenCvExact
        : opencv ? Resize::kOpenCv
                 : Resize::kDarknet);
  }
  return out;
}

}  // namespace
}  // namespace yolotf

void bind_decode(py::module_& module) {
  using namespace pybind11::literals;
  module.attr("HEAD_FIELDS") = py::cast(yolotf::kHeadFields);
  module.attr("HEAD_KINDS") = py::cast(yolotf::kHeadKinds);
  module.attr("SUPPRESSION_KINDS") = py::cast(yolotf::kSuppressionKinds);
  module.attr("ORDERS") = py::cast(yolotf::kOrders);
  // shared_ptr: an object whose __init__ never ran has no holder and is rejected as an argument.
  // Python's own metaclass, as the stub declares no other.
  py::class_<yolotf::ClassTree, std::shared_ptr<yolotf::ClassTree>>(
      module, "ClassTree", py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)),
      "A tree of classes. `parents`: the class above each class, with a lower index; -1 for a "
      "root. `groups`: the classes in order are divided into groups of these sizes; the classes of "
      "a group have the same parent and share a softmax. Raises ValueError unless the arguments "
      "describe a tree.")
      .def(py::init<const std::vector<std::int64_t>&, const std::vector<std::int64_t>&>(),
           "parents"_a, "groups"_a);
  module.def(
      "detections", &yolotf::decode, "raws"_a, "heads"_a, "numbers"_a, "input_size"_a,
      "image_sizes"_a, py::kw_only(), "score"_a, "iou"_a, "max_boxes"_a, "suppression"_a = 0,
      "beta"_a = 0.6, "letter_box"_a = false, "agnostic"_a = false,
      "unwanted"_a = std::vector<std::int64_t>{}, "tree"_a = py::none(), "threads"_a = 1,
      "order"_a = 0,
      "Decodes raw heads (float32, [images, rows, columns, channels], not copied) and applies "
      "non-maximum suppression, by Darknet's rules. Each row of `heads` (int64) has the "
      "HEAD_FIELDS "
      "of a head; each row of `numbers` (float64) has scale_x_y, the shift of yolo_point, and the "
      "anchors. With `tree`, all heads must be [region]. `suppression` and `order` are indices "
      "into "
      "SUPPRESSION_KINDS and ORDERS. Returns the detections of all images, concatenated: boxes "
      "[N, 4] as left, top, right, bottom in pixels, scores [N], classes [N], and counts "
      "[images].");
  module.def("fit", &yolotf::fit_images, "images"_a, "shape"_a, "inner"_a, py::kw_only(),
             "threads"_a = 1, "opencv"_a = false, "exact"_a = false,
             "Resizes images (uint8, or float32 in 0..1; [height, width, channels]) as Darknet "
             "does, or bilinearly as OpenCV does (`exact`: with INTER_LINEAR_EXACT). `shape`: "
             "(height, width, channels) of an input; `inner`: (height, width) to which each image "
             "is resized, centered in 0.5. Returns float32 [images, *shape].");
}
