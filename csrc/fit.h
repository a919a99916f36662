// Pictures -> a network's input, resized as Darknet or as OpenCV does. The standard library,
// nothing else.
//
// Sources: AlexeyAB/darknet src/image.c:1006 (letterbox_image) and 1399 (resize_image), of which
// the graph of standard operations that exported models hold (yolotf/graphs/operations.py) computes
// the same, to the last bit; OpenCV's bilinear cv::resize (modules/imgproc/src/resize.cpp), with
// which both Darknets train (src/image_opencv.cpp:317) and hank-ai's predicts
// (src-lib/darknet.cpp:1373).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace yolotf {

enum class Resize {
  kDarknet,  // the corners of both on each other, in floats
  kOpenCv,   // the centres of pixels, bytes in fixed point and rounded to bytes
};

struct Picture {
  const void* pixels = nullptr;  // [height, width, channels] without gaps, at least 1 x 1
  bool bytes = true;             // of 0..255; else float32 of 0..1
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t inner_height = 0;  // that it gets, in the middle of the input; at most the input's
  std::int64_t inner_width = 0;
};

/// Writes [pictures, height, width, channels] float32 of 0..1: each picture resized bilinearly to
/// its inner rectangle, 0.5 around it. On up to `threads` threads.
void fit(const std::vector<Picture>& pictures, std::int64_t height, std::int64_t width,
         std::int64_t channels, float* out, int threads, Resize resize = Resize::kDarknet);

}  // namespace yolotf
