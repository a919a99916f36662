// A file's bytes, held so that no other process can change or remove them while they are read.
//
// A mapping alone is not safe: if another process truncates the file, touching a lost page is
// SIGBUS, and by then variables may be half written. So a mapping is used only under a read lease
// (Linux, fcntl F_SETLEASE): the kernel then makes whoever wants to open the file for writing or
// truncate it wait until the load, some milliseconds, is over. Where no lease is to be had (someone
// has the file open for writing, it belongs to another user, the file system or the kernel knows
// none), the bytes are read into private memory instead, and the file is compared before and
// after. No signal handler is installed in either case.
#ifndef YOLOTF_CSRC_MAPPED_FILE_H_
#define YOLOTF_CSRC_MAPPED_FILE_H_

#include <time.h>

#include <cstddef>
#include <cstdint>

namespace yolotf {

enum class FileCode {
  kOk = 0,
  kSystem,      // system_error: errno
  kNotRegular,  // a directory, a FIFO, a device
  kChanged,     // another process changed the file while it was read
};

struct FileError {
  FileCode code = FileCode::kOk;
  int system_error = 0;
};

class MappedFile {
 public:
  MappedFile() = default;
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Opens a regular file for reading; never blocks on a FIFO.
  bool open(const char* path, FileError* error) noexcept;

  std::uint64_t size() const noexcept { return size_; }

  // Reads up to `size` bytes at `offset`; *read is less only at the end of the file. Needs no hold.
  bool read(std::uint64_t offset, std::uint64_t size, std::byte* bytes, std::uint64_t* read,
            FileError* error) const noexcept;

  // Makes bytes() valid: by a mapping under a lease, all pages read in, or by a private copy.
  bool hold(FileError* error) noexcept;

  // Likewise, but for a mapping without reading: bytes are valid where read_in has been.
  bool begin(FileError* error) noexcept;

  // Reads bytes `begin` to `end` in; does nothing for a copy.
  bool read_in(std::uint64_t begin, std::uint64_t end, FileError* error) noexcept;

  // Whether the held file begins with these bytes; kChanged if not: another one was meant.
  bool begins_with(const void* bytes, std::uint64_t size, FileError* error) const noexcept;

  // The whole file; page-aligned. Null before hold() or begin(), and for an empty file.
  const std::byte* bytes() const noexcept { return bytes_; }

  // True if bytes() is the page cache itself, false if it is a private copy.
  bool mapped() const noexcept { return mapped_; }

  // False if the file has changed since it was opened, as far as the file system tells.
  bool unchanged() const noexcept;

 private:
  // Time stamps of many file systems tick every few milliseconds: until the tick after the file's,
  // a change would not show.
  void wait_for_tick() const noexcept;
  bool lease() noexcept;
  bool acquire(std::uint64_t read_in_bytes, FileError* error) noexcept;
  bool map(std::uint64_t read_in_bytes) noexcept;
  bool copy(FileError* error) noexcept;

  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  timespec modified_ = {};
  std::byte* bytes_ = nullptr;
  bool leased_ = false;
  bool mapped_ = false;
};

// Asks for huge pages where `memory` has none yet: with pages of 4 KB, a fourth of the time of a
// load into new memory goes into getting them. Only advice; the pages at both ends may be others'
// too.
void prefer_huge_pages(void* memory, std::uint64_t size) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_MAPPED_FILE_H_
