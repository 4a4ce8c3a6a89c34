"""What is in CuPy's namespace, as of version 14.2: nothing else may be asked of it."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


UFUNCS = _words("""
    abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin
    asinh atan atan2 atanh bitwise_and bitwise_count bitwise_invert bitwise_left_shift
    bitwise_not bitwise_or bitwise_right_shift bitwise_xor cbrt ceil conj conjugate copysign
    cos cosh deg2rad degrees divide divmod equal exp exp2 expm1 fabs fix float_power floor
    floor_divide fmax fmin fmod frexp gcd greater greater_equal heaviside hypot i0 invert
    isfinite isinf isnan lcm ldexp left_shift less less_equal log log10 log1p log2 logaddexp
    logaddexp2 logical_and logical_not logical_or logical_xor matmul maximum minimum mod
    modf multiply negative nextafter not_equal positive pow power rad2deg radians reciprocal
    remainder right_shift rint sign signbit sin sinc sinh sqrt square subtract tan tanh
    true_divide trunc
""")
"""Functions of elements."""

FUNCTIONS = _words("""
    all allclose amax amin angle any append apply_along_axis apply_over_axes arange argmax
    argmin argpartition argsort argwhere around array array2string array_equal array_equiv
    array_repr array_split array_str asanyarray asarray asarray_chkfinite ascontiguousarray
    asfortranarray astype atleast_1d atleast_2d atleast_3d average bartlett base_repr
    binary_repr bincount blackman broadcast_arrays broadcast_to can_cast choose clip
    column_stack common_type compress concat concatenate convolve copy copyto corrcoef
    correlate count_nonzero cov cross cumprod cumsum cumulative_prod cumulative_sum delete
    diag diag_indices diag_indices_from diagflat diagonal diff digitize dot dsplit dstack
    ediff1d einsum empty empty_like expand_dims extract eye fill_diagonal flatnonzero flip
    fliplr flipud format_float_positional format_float_scientific frombuffer fromfile
    fromfunction fromiter fromstring full full_like genfromtxt gradient hamming hanning
    histogram histogram2d histogramdd hsplit hstack identity imag indices inner interp
    intersect1d isclose iscomplex iscomplexobj isfortran isin isneginf isposinf isreal
    isrealobj isscalar ix_ kaiser kron lexsort linspace load loadtxt logspace mask_indices
    matrix_transpose max may_share_memory mean median meshgrid min min_scalar_type moveaxis
    nan_to_num nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin
    nanprod nanstd nansum nanvar ndim nonzero ones ones_like outer packbits pad partition
    percentile permute_dims piecewise place poly polyadd polyfit polymul polysub polyval
    prod ptp put put_along_axis putmask quantile ravel ravel_multi_index real real_if_close
    repeat require reshape resize result_type roll rollaxis roots rot90 round row_stack save
    savetxt savez savez_compressed searchsorted select setdiff1d setxor1d shape
    shares_memory show_config size sort sort_complex split squeeze stack std sum swapaxes
    take take_along_axis tensordot tile trace transpose trapezoid tri tril tril_indices
    tril_indices_from trim_zeros triu triu_indices triu_indices_from union1d unique
    unique_all unique_counts unique_inverse unique_values unpackbits unravel_index unwrap
    vander var vdot vsplit vstack where zeros zeros_like
""")
"""Functions that CuPy has of its own."""

VIEWS = frozenset(
    _words("""
    broadcast_to expand_dims matrix_transpose moveaxis permute_dims ravel reshape rollaxis
    squeeze swapaxes transpose
""")
)
"""Functions whose results are views where they can be."""

SHARED = _words("""
    bool bool_ broadcast_shapes byte cdouble complex128 complex64 complexfloating csingle
    double dtype e euler_gamma finfo float16 float32 float64 floating generic
    get_printoptions half iinfo index_exp inexact inf int16 int32 int64 int8 int_ intc
    integer intp isdtype issubdtype iterable long longlong mintypecode nan ndindex newaxis
    number pi printoptions promote_types s_ set_printoptions short signedinteger single
    typename ubyte uint uint16 uint32 uint64 uint8 uintc uintp ulong ulonglong
    unsignedinteger ushort
""")
"""What is NumPy's own."""

LINALG = _words("""
    cholesky cond cross det eig eigh eigvals eigvalsh inv lstsq matmul matrix_power
    matrix_rank matrix_transpose norm pinv qr slogdet solve svd tensorinv tensorsolve
""")
"""Functions of ``cupy.linalg``."""
