r"""Rewrites the loops of the kernels that MLX generates for the CPU, so that g++ vectorises them.

Where operands aren't contiguous, MLX's innermost loop adds a stride to a pointer for each number:

    for (int i1 = 0; i1 < shape[1]; ++i1) {
    float tmp_A = *A;
    ...
    *C++ = tmp_C;
    A += A_strides[1];
    }

The stride is known at run time alone, so g++ loads one number at a time. Rewritten, the loop goes
through rows of up to `ROW` numbers: an operand of stride 1 is read where it is, any other is copied
to a row first, and the numbers of a row are computed together:

    for (int done = 0; done < shape[1]; done += ROW) {
    const int count = shape[1] - done < ROW ? shape[1] - done : ROW;
    float A_room[ROW];
    const float* A_row = in_a_row(A, A_strides[1], count, A_room);
    for (int k = 0; k < count; ++k) {
    float tmp_A = A_row[k];
    ...
    *C++ = tmp_C;
    }
    A += A_strides[1] * count;
    }

MLX's own loop is kept for dimensions of fewer than `LEAST` numbers.

MLX may write a result over an operand that is needed no more, number by number. A compiler that
can't know the latter takes such a loop one number at a time, so each innermost loop is marked as
having independent iterations.
"""

REWRITE = r"""
/^ *for \(int i[0-9]+ = 0/ {
  if (held != "") print held
  held = $0
  next
}
held != "" {
  n = held
  sub(/.*shape\[/, "", n)
  sub(/\].*/, "", n)
  whole = "#pragma GCC ivdep\n" held "\n"
  held = rows = body = steps = ""
  innermost = 1
}
innermost && /^ *}/ {
  print "  if (shape[" n "] < LEAST) {\n" whole "  }\n  } else {"
  print "  for (int done = 0; done < shape[" n "]; done += ROW) {"
  print "  const int count = shape[" n "] - done < ROW ? shape[" n "] - done : ROW;"
  print rows "#pragma GCC ivdep\n  for (int k = 0; k < count; ++k) {\n" body "  }"
  print steps "  }\n  }"
  innermost = 0
  next
}
innermost { whole = whole $0 "\n" }
innermost && /^ *[a-z0-9_]+ tmp_[A-Za-z]+ = \*[A-Za-z]+;/ {
  x = $4
  gsub(/[*;]/, "", x)
  rows = rows "  " $1 " " x "_room[ROW];\n"
  row = "in_a_row(" x ", " x "_strides[" n "], count, " x "_room);"
  rows = rows "  const " $1 "* " x "_row = " row "\n"
  body = body "  " $1 " " $2 " = " x "_row[k];\n"
  next
}
innermost && $0 ~ "^ *[A-Za-z]+ [+]= [A-Za-z]+_strides[[]" n "[]];" {
  sub(/;/, " * count;")
  steps = steps $0 "\n"
  next
}
innermost { body = body $0 "\n"; next }
/^ *for \(/ { print "#pragma GCC ivdep" }
{ print }
/^#include/ && !told {
  told = 1
  print "constexpr int ROW = 256, LEAST = 16;"
  print "template <typename T>"
  print "inline const T* in_a_row(const T* x, int64_t stride, int n, T* room) {"
  print "  if (stride == 1) return x;"
  print "  const T first = *x;"
  print "  if (stride == 0) for (int k = 0; k < n; ++k) room[k] = first;"
  print "  else for (int k = 0; k < n; ++k) room[k] = x[k * stride];"
  print "  return room;\n}"
}
"""
"""An awk program that prints a kernel's source rewritten."""
