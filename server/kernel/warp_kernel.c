/* The warp kernel: resamples one raster by places that were computed on a lattice. icehouse_server/raster/kernel.py calls
 * it, and says what the arguments are.
 *
 * The methods follow the rules of GDAL's warp (how kernels are widened, what edges and nodata do, how values are rounded),
 * which is the oracle of tests/property/test_kernel.py. The code is written from these rules and held to them by the tests.
 *
 * One C file for all of Python's versions from 3.12 on (limited API); without numpy's headers, by the buffer protocol.
 */
#define Py_LIMITED_API 0x030C0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <pthread.h>
#include <stdatomic.h>
#endif

#define PI 3.14159265358979323846
#define EDGE 1e-10         /* pixels by which a place counts for the next pixel: noise of floats */
#define LEAST_WEIGHT 1e-6  /* sum of weights below which there is no value */
#define PLAIN_SCALE 0.95   /* target pixels by source pixels from which bilinear and cubic are not widened */
#define MOST_THREADS 16

enum { NEAREST, BILINEAR, CUBIC, CUBIC_SPLINE, LANCZOS, AVERAGE, METHODS };
static const int RADIUS[METHODS] = {0, 1, 2, 2, 3, 0};

/* How a kernel lies along one axis. */
typedef struct {
    double narrow;     /* its arguments are multiplied by this: target pixels by source pixels, at most 1 */
    Py_ssize_t radius; /* source pixels that it reaches to each side */
    double sine, cosine, slow_sine, slow_cosine; /* of one step of Lanczos' angles */
} Kernel;

/* Weights of the source pixels first..last along one axis. */
typedef struct {
    Py_ssize_t first, last;
    double *weight;
} Taps;

typedef struct {
    const char *source;
    Py_ssize_t rows, cols;
    char *out;
    Py_ssize_t out_rows, out_cols, out_stride; /* the stride in bytes */
    const double *lattice;                     /* (cell_rows + 1, cell_cols + 1, 2): column and row on the source */
    const int32_t *cells;                      /* (cell_rows, cell_cols): number of a block, -1: interpolate */
    const double *blocks;                      /* (n, step + 1, step + 1, 2): the place of each pixel or corner */
    Py_ssize_t cell_rows, cell_cols, step;
    const void *nodata; /* one value of the dtype, or NULL */
    int method, plain;
    Kernel across, down;
} Job;

/* A square of the target, and the places of its pixels: (rows, wide, 2). */
typedef struct {
    Py_ssize_t top, left, rows, cols, wide;
    const double *places;
} Cell;

static inline double cubic(double x) { /* Catmull and Rom's: a = -0.5 */
    x = fabs(x);
    if (x <= 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

static inline double cubic_spline(double x) {
    /* Beyond 2 on the right GDAL's B-spline goes on, below zero; a widened kernel reaches there. */
    if (x <= -2) return 0;
    const double away = fabs(x);
    if (away > 1) return (2 - away) * (2 - away) * (2 - away) / 6;
    return (4 + away * away * (3 * away - 6)) / 6;
}

static inline void cubic_weights(double weight[4], double delta) {
    for (int i = 0; i < 4; i++) weight[i] = cubic(i - 1 - delta);
}

/* The two pixels around a place, cut at the ends of the source. */
static inline void fill_two(Taps *taps, double place, Py_ssize_t size) {
    const double centre = place - 0.5;
    const Py_ssize_t base = (Py_ssize_t)floor(centre);
    const double part = centre - base;
    taps->first = base < 0 ? 0 : base;
    taps->last = base + 1 < size ? base + 1 : size - 1;
    taps->weight[0] = base < 0 ? part : 1 - part;
    if (taps->last > taps->first) taps->weight[1] = part;
}

/* Weights at x, x + narrow, ...; the sines of equal steps come of each other. */
static inline void lanczos_weights(double *weight, Py_ssize_t count, double x, const Kernel *kernel) {
    double sine = sin(PI * x), cosine = cos(PI * x), slow_sine = sin(PI / 3 * x), slow_cosine = cos(PI / 3 * x);
    for (Py_ssize_t i = 0; i < count; i++, x += kernel->narrow) {
        const int inside = fabs(x) < 3;
        weight[i] = fabs(x) < 1e-8 ? 1 : inside ? 3 / (PI * PI) * sine * slow_sine / (x * x) : 0;
        const double next = sine * kernel->cosine + cosine * kernel->sine;
        cosine = cosine * kernel->cosine - sine * kernel->sine;
        sine = next;
        const double slow_next = slow_sine * kernel->slow_cosine + slow_cosine * kernel->slow_sine;
        slow_cosine = slow_cosine * kernel->slow_cosine - slow_sine * kernel->slow_sine;
        slow_sine = slow_next;
    }
}

static inline void fill_taps(Taps *taps, const Kernel *kernel, int method, double place, Py_ssize_t size) {
    const double centre = place - 0.5, step = kernel->narrow;
    const Py_ssize_t base = (Py_ssize_t)floor(centre);
    Py_ssize_t first = base - kernel->radius + 1, last = base + kernel->radius;
    /* What weighs nothing is not read. The spline has weights beyond its right end. */
    if ((first - centre) * step <= -RADIUS[method]) first++;
    if (method != CUBIC_SPLINE && (last - centre) * step >= RADIUS[method]) last--;
    taps->first = first < 0 ? 0 : first;
    taps->last = last < size ? last : size - 1;
    const Py_ssize_t count = taps->last - taps->first + 1;
    const double x = (taps->first - centre) * step;
    double *weight = taps->weight;
    switch (method) {
        case BILINEAR:
            for (Py_ssize_t i = 0; i < count; i++) weight[i] = 1 - fabs(x + i * step);
            break;
        case CUBIC:
            for (Py_ssize_t i = 0; i < count; i++) weight[i] = cubic(x + i * step);
            break;
        case CUBIC_SPLINE:
            for (Py_ssize_t i = 0; i < count; i++) weight[i] = cubic_spline(x + i * step);
            break;
        default:
            lanczos_weights(weight, count, x, kernel);
    }
}

/* The source pixels that a target pixel covers along an axis, each by its covered part; 0 where it covers none.
 *
 * As in GDAL, what sticks out of the source counts for its outermost pixel, and one pixel alone counts whole. */
static inline int fill_cover(Taps *taps, double from, double to, Py_ssize_t size) {
    const double low = from < to ? from : to, high = from < to ? to : from;
    if (!isfinite(low) || !isfinite(high) || high <= 0 || low >= size) return 0;
    Py_ssize_t first = low < 0 ? 0 : (Py_ssize_t)floor(low + EDGE);
    Py_ssize_t last = high > size ? size - 1 : (Py_ssize_t)ceil(high - EDGE) - 1;
    if (first >= size) first = size - 1;
    if (last < first) last = first;
    taps->first = first;
    taps->last = last;
    for (Py_ssize_t at = first; at <= last; at++) taps->weight[at - first] = 1;
    if (first < last) {
        taps->weight[0] = 1 - (low - first);
        taps->weight[last - first] = 1 - (last + 1 - high);
    }
    return 1;
}

/* The source pixel at a place; 0 where there is none, also where the place is not a number. */
static inline int find_pixel(const Job *job, const double *place, Py_ssize_t *col, Py_ssize_t *row) {
    const double x = place[0], y = place[1];
    if (!(x >= 0 && y >= 0 && x + EDGE <= (double)job->cols && y + EDGE <= (double)job->rows)) return 0;
    *col = (Py_ssize_t)floor(x + EDGE);
    *row = (Py_ssize_t)floor(y + EDGE);
    if (*col == job->cols) --*col;
    if (*row == job->rows) --*row;
    return 1;
}

#define T uint8_t
#define OF(name) name##_u1
#define LOW 0
#define HIGH UINT8_MAX
#include "warp_pixels.h"

#define T int8_t
#define OF(name) name##_i1
#define LOW INT8_MIN
#define HIGH INT8_MAX
#include "warp_pixels.h"

#define T uint16_t
#define OF(name) name##_u2
#define LOW 0
#define HIGH UINT16_MAX
#include "warp_pixels.h"

#define T int16_t
#define OF(name) name##_i2
#define LOW INT16_MIN
#define HIGH INT16_MAX
#include "warp_pixels.h"

#define T uint32_t
#define OF(name) name##_u4
#define LOW 0
#define HIGH UINT32_MAX
#include "warp_pixels.h"

#define T int32_t
#define OF(name) name##_i4
#define LOW INT32_MIN
#define HIGH INT32_MAX
#include "warp_pixels.h"

#define T float
#define OF(name) name##_f4
#include "warp_pixels.h"

#define T double
#define OF(name) name##_f8
#include "warp_pixels.h"

typedef void (*CellKernel)(const Job *, const Cell *, Taps *, Taps *);

static CellKernel kernel_of(int kind, Py_ssize_t itemsize) {
    switch (kind << 8 | (int)itemsize) {
        case 'u' << 8 | 1: return cell_u1;
        case 'i' << 8 | 1: return cell_i1;
        case 'u' << 8 | 2: return cell_u2;
        case 'i' << 8 | 2: return cell_i2;
        case 'u' << 8 | 4: return cell_u4;
        case 'i' << 8 | 4: return cell_i4;
        case 'f' << 8 | 4: return cell_f4;
        case 'f' << 8 | 8: return cell_f8;
        default: return NULL;
    }
}

/* Interpolate the places of a cell between its four nodes: (rows, cols, 2). */
static void interpolate(const Job *job, Py_ssize_t i, Py_ssize_t j, Py_ssize_t rows, Py_ssize_t cols, double *places) {
    const double *upper = job->lattice + 2 * (i * (job->cell_cols + 1) + j);
    const double *lower = upper + 2 * (job->cell_cols + 1);
    const double part = 1.0 / job->step;
    for (Py_ssize_t row = 0; row < rows; row++) {
        const double below = row * part;
        const double x = upper[0] + below * (lower[0] - upper[0]), y = upper[1] + below * (lower[1] - upper[1]);
        const double dx = (upper[2] + below * (lower[2] - upper[2]) - x) * part;
        const double dy = (upper[3] + below * (lower[3] - upper[3]) - y) * part;
        for (Py_ssize_t col = 0; col < cols; col++) {
            *places++ = x + col * dx;
            *places++ = y + col * dy;
        }
    }
}

/* What the threads of one call share. */
typedef struct {
    const Job *job;
    CellKernel kernel;
    Py_ssize_t taps_across, taps_down; /* room for weights */
#ifndef _WIN32
    atomic_long next_row;
    atomic_int out_of_memory;
#else
    long next_row;
    int out_of_memory;
#endif
} Work;

static long take_row(Work *work) {
#ifndef _WIN32
    return atomic_fetch_add(&work->next_row, 1);
#else
    return work->next_row++;
#endif
}

static void warp_row(Work *work, long i, double *places, Taps *across, Taps *down) {
    const Job *job = work->job;
    const Py_ssize_t side = job->step + 1, corners = job->method == AVERAGE;
    Cell cell = {.top = i * job->step};
    cell.rows = job->out_rows - cell.top < job->step ? job->out_rows - cell.top : job->step;
    for (Py_ssize_t j = 0; j < job->cell_cols; j++) {
        cell.left = j * job->step;
        cell.cols = job->out_cols - cell.left < job->step ? job->out_cols - cell.left : job->step;
        const int32_t block = job->cells[i * job->cell_cols + j];
        if (block >= 0) {
            cell.wide = side;
            cell.places = job->blocks + 2 * side * side * block;
        } else {
            cell.wide = cell.cols + corners;
            cell.places = places;
            interpolate(job, i, j, cell.rows + corners, cell.wide, places);
        }
        work->kernel(job, &cell, across, down);
    }
}

static void *run(void *shared) {
    Work *work = shared;
    const Py_ssize_t side = work->job->step + 1;
    double *places = malloc(sizeof(double) * 2 * side * side);
    Taps across = {0, 0, malloc(sizeof(double) * work->taps_across)};
    Taps down = {0, 0, malloc(sizeof(double) * work->taps_down)};
    if (places == NULL || across.weight == NULL || down.weight == NULL) {
        work->out_of_memory = 1;
    } else {
        for (long i = take_row(work); i < work->job->cell_rows; i = take_row(work))
            warp_row(work, i, places, &across, &down);
    }
    free(places);
    free(across.weight);
    free(down.weight);
    return NULL;
}

static void run_all(Work *work, int threads) {
#ifndef _WIN32
    pthread_t others[MOST_THREADS];
    int begun = 0;
    while (begun < threads - 1 && begun < MOST_THREADS && begun + 1 < work->job->cell_rows) {
        if (pthread_create(&others[begun], NULL, run, work) != 0) break;
        begun++;
    }
    run(work);
    while (begun > 0) pthread_join(others[--begun], NULL);
#else
    (void)threads;
    run(work);
#endif
}

static Kernel kernel_along(int method, double scale) {
    const double narrow = scale < 1 ? scale : 1;
    return (Kernel){
        .narrow = narrow, .radius = (Py_ssize_t)ceil(RADIUS[method] / narrow),
        .sine = sin(PI * narrow), .cosine = cos(PI * narrow),
        .slow_sine = sin(PI / 3 * narrow), .slow_cosine = cos(PI / 3 * narrow),
    };
}

/* Whether the shapes fit each other; sets an exception where they do not. */
static int check(const Job *job, const Py_buffer *views) {
    const Py_buffer *source = &views[0], *out = &views[1], *lattice = &views[2], *blocks = &views[4];
    const Py_ssize_t side = job->step + 1;
    const char *wrong = NULL;
    if (job->rows < 1 || job->cols < 1) wrong = "source is empty";
    else if (out->itemsize != source->itemsize || out->strides[1] != out->itemsize) wrong = "out does not fit source";
    else if (job->step < 1 || lattice->itemsize != 8 || views[3].itemsize != 4 || blocks->itemsize != 8 ||
             lattice->shape[0] != job->cell_rows + 1 || lattice->shape[1] != job->cell_cols + 1 ||
             lattice->shape[2] != 2 || job->cell_rows != (job->out_rows + job->step - 1) / job->step ||
             job->cell_cols != (job->out_cols + job->step - 1) / job->step)
        wrong = "lattice and cells do not fit out";
    else if (blocks->shape[1] != side || blocks->shape[2] != side || blocks->shape[3] != 2)
        wrong = "blocks do not fit step";
    else
        for (Py_ssize_t n = 0; n < job->cell_rows * job->cell_cols; n++)
            if (job->cells[n] >= blocks->shape[0]) wrong = "cells name a block that is not there";
    if (wrong != NULL) PyErr_SetString(PyExc_ValueError, wrong);
    return wrong == NULL;
}

static int warp_views(const Py_buffer *views, int kind, int step, int method, double x_scale, double y_scale,
                      int threads) {
    const Py_buffer *source = &views[0], *out = &views[1], *cells = &views[3], *nodata = &views[5];
    const Job job = {
        .source = source->buf, .rows = source->shape[0], .cols = source->shape[1],
        .out = out->buf, .out_rows = out->shape[0], .out_cols = out->shape[1], .out_stride = out->strides[0],
        .lattice = views[2].buf, .cells = cells->buf, .blocks = views[4].buf,
        .cell_rows = cells->shape[0], .cell_cols = cells->shape[1], .step = step,
        .nodata = nodata->len > 0 ? nodata->buf : NULL,
        .method = method, .plain = x_scale >= PLAIN_SCALE && y_scale >= PLAIN_SCALE,
        .across = kernel_along(method, x_scale), .down = kernel_along(method, y_scale),
    };
    Work work = {.job = &job, .kernel = kernel_of(kind, source->itemsize)};
    if (work.kernel == NULL || (nodata->len > 0 && nodata->len != source->itemsize)) {
        PyErr_SetString(PyExc_ValueError, "source or nodata has a dtype that the kernel does not know");
        return 0;
    }
    if (!check(&job, views)) return 0;
    const Py_ssize_t across = 2 * job.across.radius + 2, down = 2 * job.down.radius + 2;
    work.taps_across = method == AVERAGE || across > job.cols ? job.cols : across;
    work.taps_down = method == AVERAGE || down > job.rows ? job.rows : down;
    Py_BEGIN_ALLOW_THREADS
    run_all(&work, threads);
    Py_END_ALLOW_THREADS
    if (work.out_of_memory) PyErr_NoMemory();
    return !work.out_of_memory;
}

static PyObject *warp(PyObject *module, PyObject *args) {
    static const int DIMENSIONS[6] = {2, 2, 3, 2, 4, 1};
    PyObject *arrays[6];
    int kind, step, method, threads, held = 0, done = 0;
    double x_scale, y_scale;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOOOCiiddi", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &arrays[5],
                          &kind, &step, &method, &x_scale, &y_scale, &threads))
        return NULL;
    if (method < NEAREST || method >= METHODS || !(x_scale > 1e-6) || !(y_scale > 1e-6)) {
        PyErr_SetString(PyExc_ValueError, "method or scale is out of range");
        return NULL;
    }
    Py_buffer views[6];
    for (; held < 6; held++) {
        const int flags = held == 1 ? PyBUF_STRIDES | PyBUF_WRITABLE : PyBUF_C_CONTIGUOUS;
        if (PyObject_GetBuffer(arrays[held], &views[held], flags) != 0) break;
        if (views[held].ndim != DIMENSIONS[held]) {
            PyErr_Format(PyExc_ValueError, "argument %d has %d dimensions, not %d", held, views[held].ndim,
                         DIMENSIONS[held]);
            held++;
            break;
        }
    }
    if (held == 6 && !PyErr_Occurred()) done = warp_views(views, kind, step, method, x_scale, y_scale, threads);
    while (held > 0) PyBuffer_Release(&views[--held]);
    if (!done) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"warp", warp, METH_VARARGS,
     "warp(source, out, lattice, cells, blocks, nodata, kind, step, method, x_scale, y_scale, threads)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_warp_kernel", "Compiled part of icehouse_server.raster.kernel.", 0, functions, NULL, NULL, NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__warp_kernel(void) { return PyModuleDef_Init(&module); }
