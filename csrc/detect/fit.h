// Resizes images to a network's input as Darknet or OpenCV does. Uses only the standard library.
//
// Sources: AlexeyAB/darknet src/image.c:1006 (letterbox_image) and 1399 (resize_image); exported
// models compute the same with standard operations, to the last bit (yolotf/graphs/operations.py).
// OpenCV's bilinear cv::resize (modules/imgproc/src/resize.cpp), which both Darknets use for
// training (src/image_opencv.cpp:317) and hank-ai's for prediction (src-lib/darknet.cpp:1373).
#ifndef YOLOTF_CSRC_DETECT_FIT_H_
#define YOLOTF_CSRC_DETECT_FIT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace yolotf {

enum class Resize {
  kDarknet,      // corner pixels are aligned; computed in floats
  kOpenCv,       // pixel centers are aligned; uint8 is computed in fixed point and rounded to uint8
  kOpenCvExact,  // INTER_LINEAR_EXACT: like kOpenCv, but with the same result on every machine
};

struct Image {
  const void* pixels = nullptr;  // [height, width, channels], contiguous, at least 1 x 1
  bool is_uint8 = true;          // in 0..255; otherwise float32 in 0..1
  std::int64_t height = 0;
  std::int64_t width = 0;
  // The size to which it is resized, centered in the input; at most the input's size.
  std::int64_t inner_height = 0;
  std::int64_t inner_width = 0;
};

/// Returns the number of floats of `count` inputs; -1 if an argument is negative or the inputs
/// cannot fit into memory.
std::int64_t input_floats(std::int64_t count, std::int64_t height, std::int64_t width,
                          std::int64_t channels) noexcept;

/// Writes [images, height, width, channels] float32 in 0..1: each image resized bilinearly to its
/// inner size, with 0.5 around it. Uses up to `threads` threads.
void fit(const std::vector<Image>& images, std::int64_t height, std::int64_t width,
         std::int64_t channels, float* out, int threads, Resize resize = Resize::kDarknet);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_DETECT_FIT_H_
