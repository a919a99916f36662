// The parts of the Python module yolotf._core that bind decode.h and fit.h.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
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

// Columns of `heads`, and of `numbers` before the anchors.
enum HeadColumn : py::ssize_t {
  kKind,
  kClasses,
  kBoxes,
  kNewCoords,
  kSoftmax,
  kClassFix,
  kSquare,
  kSide,
  kHeadColumns
};
constexpr py::ssize_t kNumbersBeforeAnchors = 2;  // scale_x_y, point

std::vector<HeadRule> to_rules(const Int64Array& heads, const Float64Array& numbers,
                               const ClassTree* tree) {
  if (heads.ndim() != 2 || heads.shape(1) != kHeadColumns || numbers.ndim() != 2 ||
      numbers.shape(0) != heads.shape(0) || numbers.shape(1) < kNumbersBeforeAnchors) {
    throw py::value_error("heads must be [heads, " + std::to_string(kHeadColumns) +
                          "] and numbers have a row for each");
  }
  std::vector<HeadRule> rules;
  for (py::ssize_t i = 0; i < heads.shape(0); ++i) {
    const std::int64_t* row = heads.data(i, 0);
    const double* number = numbers.data(i, 0);
    HeadRule rule;
    if (row[kKind] < 0 || row[kKind] > static_cast<std::int64_t>(HeadKind::kDetection)) {
      throw py::value_error("head " + std::to_string(i) + " is of no known kind");
    }
    rule.kind = static_cast<HeadKind>(row[kKind]);
    rule.classes = row[kClasses];
    rule.boxes = row[kBoxes];
    rule.new_coords = row[kNewCoords] != 0;
    rule.softmax = row[kSoftmax] != 0;
    rule.class_fix = row[kClassFix] != 0;
    rule.square = row[kSquare] != 0;
    rule.side = row[kSide];
    rule.tree = tree;
    if (tree != nullptr && (rule.kind != HeadKind::kRegion || rule.classes != tree->classes())) {
      throw py::value_error("head " + std::to_string(i) + " is no [region] of " +
                            std::to_string(tree->classes()) + " classes, as the tree has");
    }
    rule.scale_x_y = static_cast<float>(number[0]);
    rule.point = static_cast<float>(number[1]);
    const py::ssize_t room = (numbers.shape(1) - kNumbersBeforeAnchors) / 2;
    if (rule.kind != HeadKind::kDetection && rule.boxes >= 0 && rule.boxes <= room) {
      const double* anchors = number + kNumbersBeforeAnchors;
      rule.anchors.assign(anchors, anchors + 2 * rule.boxes);
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

RawHead to_head(const py::array& raw, const HeadRule& rule, std::size_t number,
                std::size_t pictures) {
  const std::string name = "raw head " + std::to_string(number);
  constexpr int kNeeded = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if (!py::isinstance<py::array_t<float>>(raw) || (raw.flags() & kNeeded) != kNeeded) {
    throw py::value_error(name + " must be float32, contiguous and aligned");
  }
  // A head after a [connected] section has no grid.
  const bool flat = raw.ndim() == 2;
  if (!flat && raw.ndim() != 4) {
    throw py::value_error(name + " must be [images, rows, columns, channels], it has " +
                          std::to_string(raw.ndim()) + " axes");
  }
  if (static_cast<std::size_t>(raw.shape(0)) != pictures) {
    throw py::value_error(name + " is of " + std::to_string(raw.shape(0)) + " images, not " +
                          std::to_string(pictures));
  }
  RawHead head;
  head.data = static_cast<const float*>(raw.data());
  head.rows = flat ? 1 : raw.shape(1);
  head.columns = flat ? 1 : raw.shape(2);
  head.channels = raw.shape(flat ? 1 : 3);
  const std::int64_t wanted = floats_of(rule, head.rows, head.columns);
  const std::int64_t there = head.rows * head.columns * head.channels;
  if (wanted != there) {
    throw py::value_error(name + " has " + std::to_string(there) +
                          " floats for an image, its section takes " + std::to_string(wanted));
  }
  return head;
}

Extent to_extent(std::int64_t height, std::int64_t width, const char* what) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // a product of two fits in 64 bits
  if (height < 1 || width < 1 || height >= kMost || width >= kMost) {
    throw py::value_error(std::string(what) + " of " + std::to_string(height) + "x" +
                          std::to_string(width) + " pixels: both must be at least 1");
  }
  return {height, width};
}

// (boxes, scores, class ids, counts), the detections of all pictures after each other.
py::tuple to_arrays(const std::vector<std::vector<Detection>>& pictures) {
  Int32Out counts(static_cast<py::ssize_t>(pictures.size()));
  py::ssize_t total = 0;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    counts.mutable_data()[i] = static_cast<std::int32_t>(pictures[i].size());
    total += static_cast<py::ssize_t>(pictures[i].size());
  }
  Float32Out boxes(std::vector<py::ssize_t>{total, 4});
  Float32Out scores(total);
  Int32Out class_ids(total);
  float* box = boxes.mutable_data();
  float* score = scores.mutable_data();
  std::int32_t* class_id = class_ids.mutable_data();
  for (const std::vector<Detection>& picture : pictures) {
    for (const Detection& detection : picture) {
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

// Whether each of `classes` classes is among `class_ids`; empty if there are no ids.
std::vector<bool> marked(const std::vector<std::int64_t>& class_ids, std::int64_t classes) {
  std::vector<bool> marks;
  for (const std::int64_t class_id : class_ids) {
    marks.resize(static_cast<std::size_t>(classes));
    if (class_id >= 0 && class_id < classes) {
      marks[static_cast<std::size_t>(class_id)] = true;
    }
  }
  return marks;
}

py::tuple detections(const std::vector<py::array>& raws, const Int64Array& heads,
                     const Float64Array& numbers, std::pair<std::int64_t, std::int64_t> input_size,
                     const Int64Array& image_sizes, double score, double iou,
                     std::int64_t max_boxes, std::int64_t suppression, double beta, bool letter_box,
                     bool agnostic, const std::vector<std::int64_t>& unwanted,
                     const std::shared_ptr<ClassTree>& tree, int threads, std::int64_t order) {
  const std::vector<HeadRule> rules = to_rules(heads, numbers, tree.get());
  if (raws.size() != rules.size()) {
    throw py::value_error(std::to_string(raws.size()) + " raw outputs for " +
                          std::to_string(rules.size()) + " heads");
  }
  if (image_sizes.ndim() != 2 || image_sizes.shape(1) != 2) {
    throw py::value_error("image_sizes must be [images, 2]");
  }
  if (!(score >= 0 && score < 1) || !(iou >= 0 && iou < 1) || max_boxes < 1) {
    throw py::value_error("score and iou must be at least 0 and below 1, max_boxes at least 1");
  }
  if (suppression < 0 || suppression > static_cast<std::int64_t>(SuppressionKind::kDiouNms)) {
    throw py::value_error("suppression is of no known kind");
  }
  if (order < 0 || order > static_cast<std::int64_t>(Order::kHankAi)) {
    throw py::value_error("order is of no known kind");
  }
  std::vector<Extent> sizes;
  for (py::ssize_t i = 0; i < image_sizes.shape(0); ++i) {
    sizes.push_back(to_extent(image_sizes.at(i, 0), image_sizes.at(i, 1), "an image"));
  }
  std::vector<RawHead> inputs;
  std::int64_t classes = 0;
  for (std::size_t i = 0; i < raws.size(); ++i) {
    inputs.push_back(to_head(raws[i], rules[i], i, sizes.size()));
    classes = std::max(classes, rules[i].classes);
  }
  DecodeOptions options;
  options.input = to_extent(input_size.first, input_size.second, "an input");
  options.score = static_cast<float>(score);
  options.iou = static_cast<float>(iou);
  options.max_boxes = max_boxes;
  options.suppression = static_cast<SuppressionKind>(suppression);
  options.beta = static_cast<float>(beta);
  options.letter_box = letter_box;
  options.agnostic = agnostic;
  options.order = static_cast<Order>(order);
  options.unwanted = marked(unwanted, classes);
  std::vector<std::vector<Detection>> found;
  {
    const WithoutGil released;
    found = detect_all(rules, inputs, sizes, options, threads);
  }
  return to_arrays(found);
}

Picture to_picture(const py::array& array, std::int64_t channels) {
  const bool bytes = array.dtype().kind() == 'u' && array.dtype().itemsize() == 1;
  constexpr int kNeeded = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if (!(bytes || py::isinstance<py::array_t<float>>(array)) || array.ndim() != 3 ||
      array.shape(2) != channels || (array.flags() & kNeeded) != kNeeded) {
    throw py::value_error("an image must be uint8 or float32 [height, width, " +
                          std::to_string(channels) + "], contiguous and aligned");
  }
  const Extent size = to_extent(array.shape(0), array.shape(1), "an image");
  Picture picture;
  picture.pixels = array.data();
  picture.bytes = bytes;
  picture.height = size.height;
  picture.width = size.width;
  return picture;
}

Float32Out fitted(const std::vector<py::array>& arrays,
                  std::tuple<std::int64_t, std::int64_t, std::int64_t> shape,
                  const std::vector<std::pair<std::int64_t, std::int64_t>>& inner, int threads,
                  bool opencv, bool exact) {
  const auto [rows, columns, channels] = shape;
  const Extent input = to_extent(rows, columns, "an input");
  if (inner.size() != arrays.size() || channels < 1) {
    throw py::value_error(std::to_string(inner.size()) + " sizes for " +
                          std::to_string(arrays.size()) + " images");
  }
  std::vector<Picture> pictures;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    Picture picture = to_picture(arrays[i], channels);
    const Extent size = to_extent(inner[i].first, inner[i].second, "a fitted image");
    if (size.height > input.height || size.width > input.width) {
      throw py::value_error("a fitted image is larger than the input");
    }
    picture.inner_height = size.height;
    picture.inner_width = size.width;
    pictures.push_back(picture);
  }
  // Aligned so that TensorFlow uses it without a copy.
  constexpr std::size_t kAlignment = 64;
  const std::int64_t floats =
      input_floats(static_cast<std::int64_t>(pictures.size()), input.height, input.width, channels);
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
  const std::vector<py::ssize_t> whole{static_cast<py::ssize_t>(pictures.size()), rows, columns,
                                       channels};
  Float32Out out(whole, memory, owner);
  {
    const WithoutGil released;
    fit(pictures, input.height, input.width, channels, memory, threads,
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
  module.attr("HEAD_COLUMNS") = static_cast<py::ssize_t>(yolotf::kHeadColumns);
  // shared_ptr: an object whose __init__ never ran has no holder, and is rejected as an argument.
  // The metaclass is Python's own, which the stub can express.
  py::class_<yolotf::ClassTree, std::shared_ptr<yolotf::ClassTree>>(
      module, "ClassTree", py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)),
      "Classes, each below another or a root. `parents`: the class above each, which comes before "
      "it, or -1; `groups`: sizes of the runs of classes with one parent, which hold all of them. "
      "Raises ValueError for any others.")
      .def(py::init<const std::vector<std::int64_t>&, const std::vector<std::int64_t>&>(),
           "parents"_a, "groups"_a);
  module.def(
      "detections", &yolotf::detections, "raws"_a, "heads"_a, "numbers"_a, "input_size"_a,
      "image_sizes"_a, py::kw_only(), "score"_a, "iou"_a, "max_boxes"_a, "suppression"_a = 0,
      "beta"_a = 0.6, "letter_box"_a = false, "agnostic"_a = false,
      "unwanted"_a = std::vector<std::int64_t>{}, "tree"_a = py::none(), "threads"_a = 1,
      "order"_a = 0,
      "Decodes raw heads (float32, [images, rows, columns, channels], not copied) and suppresses "
      "by Darknet's rules. `heads` int64: kind, classes, boxes of a cell, new_coords, softmax, "
      "classfix=-1, sqrt, side; `numbers` float64: scale_x_y, yolo_point, anchors; `tree`: of the "
      "classes of all heads, each [region]. Returns "
      "(boxes [N, 4] left, top, right, bottom in pixels, scores [N], classes [N], counts "
      "[images]), the detections of all images after each other, best first, or in the "
      "order (1, 2: Order of decode.h) in which a Darknet's map counts them.");
  module.def("fit", &yolotf::fitted, "images"_a, "shape"_a, "inner"_a, py::kw_only(),
             "threads"_a = 1, "opencv"_a = false, "exact"_a = false,
             "Resizes images (uint8, or float32 of 0..1; [height, width, channels]) as Darknet "
             "does, or as OpenCV's bilinear (`exact`: INTER_LINEAR_EXACT). `shape`: of an input, "
             "(rows, columns, channels); "
             "`inner`: (height, width) that "
             "each image gets, in the middle of 0.5. Returns float32 [images, *shape].");
}
