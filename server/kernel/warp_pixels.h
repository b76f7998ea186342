/* The pixels of one dtype: included by warp_kernel.c once for each, with
 *
 *   T          the C type
 *   OF(name)   the name with the dtype's suffix
 *   LOW, HIGH  the ends of an integer type; not defined for floats
 */

/* What a file or a band calls nodata; a NaN marks NaN. */
typedef struct {
    int any, is_nan;
    T value;
} OF(Nodata);

static inline int OF(is_valid)(const OF(Nodata) *nodata, T value) {
    if (!nodata->any) return 1;
#ifndef LOW
    if (nodata->is_nan) return value == value;
#endif
    return value != nodata->value;
}

static inline T OF(rounded)(double value) {
#ifdef LOW
    value = floor(value + 0.5);
    if (!(value > (double)LOW)) return LOW;
    return value >= (double)HIGH ? HIGH : (T)value;
#else
    return (T)value;
#endif
}

/* A valid result that happens to equal nodata is moved to the next value. */
static inline T OF(moved_off)(const OF(Nodata) *nodata, T value) {
    if (!nodata->any || value != nodata->value) return value;
#ifdef LOW
    return value == LOW ? value + 1 : value - 1;
#else
    return (T)(sizeof(T) == sizeof(float) ? nextafterf((float)value, -INFINITY) : nextafter((double)value, -INFINITY));
#endif
}

/* The weighted mean of the valid pixels under the taps of both axes; 0 where there is none. */
static inline int OF(weighted)(const Job *job, const OF(Nodata) *nodata, const Taps *across, const Taps *down,
                               double *result) {
    const Py_ssize_t wide = across->last - across->first + 1;
    double sum = 0, weights = 0;
    for (Py_ssize_t row = down->first; row <= down->last; row++) {
        const T *line = (const T *)job->source + row * job->cols + across->first;
        const double down_weight = down->weight[row - down->first];
        double line_sum = 0, line_weights = 0;
        for (Py_ssize_t i = 0; i < wide; i++) {
            const int valid = OF(is_valid)(nodata, line[i]);
            line_sum += valid ? across->weight[i] * (double)line[i] : 0;
            line_weights += valid ? across->weight[i] : 0;
        }
        sum += down_weight * line_sum;
        weights += down_weight * line_weights;
    }
    if (weights < LEAST_WEIGHT) return 0;
    *result = sum / weights;
    return 1;
}

/* Bilinear at scale 1: the valid ones of four neighbours. */
static inline int OF(of_four)(const Job *job, const OF(Nodata) *nodata, double x, double y, double *result) {
    double across[2], down[2];
    Taps columns = {0, 0, across}, rows = {0, 0, down};
    fill_two(&columns, x, job->cols);
    fill_two(&rows, y, job->rows);
    return OF(weighted)(job, nodata, &columns, &rows, result);
}

/* Cubic at scale 1: sixteen neighbours, or four where one of the sixteen is not there or not valid. */
static inline int OF(of_sixteen)(const Job *job, const OF(Nodata) *nodata, double x, double y, double *result) {
    const double centre_x = x - 0.5, centre_y = y - 0.5;
    const Py_ssize_t col = (Py_ssize_t)floor(centre_x), row = (Py_ssize_t)floor(centre_y);
    if (col < 1 || row < 1 || col + 2 >= job->cols || row + 2 >= job->rows)
        return OF(of_four)(job, nodata, x, y, result);
    double across[4], down[4], sum = 0;
    int valid = 1;
    cubic_weights(across, centre_x - col);
    cubic_weights(down, centre_y - row);
    for (int j = 0; j < 4; j++) {
        const T *line = (const T *)job->source + (row + j - 1) * job->cols + col - 1;
        double line_sum = 0;
        for (int i = 0; i < 4; i++) {
            valid &= OF(is_valid)(nodata, line[i]);
            line_sum += across[i] * (double)line[i];
        }
        sum += down[j] * line_sum;
    }
    if (!valid) return OF(of_four)(job, nodata, x, y, result);
    *result = sum;
    return 1;
}

/* One pixel of the target by its place, and for averages the place of its far corner. */
static inline void OF(pixel)(const Job *job, const OF(Nodata) *nodata, const double *place, const double *corner,
                             Taps *across, Taps *down, T *out) {
    double value;
    if (job->method == AVERAGE) {
        if (!fill_cover(across, place[0], corner[0], job->cols) || !fill_cover(down, place[1], corner[1], job->rows))
            return;
        if (!OF(weighted)(job, nodata, across, down, &value)) return;
        *out = OF(moved_off)(nodata, OF(rounded)(value));
        return;
    }
    Py_ssize_t col, row;
    if (!find_pixel(job, place, &col, &row)) return;
    const T under = ((const T *)job->source)[row * job->cols + col];
    if (!OF(is_valid)(nodata, under)) return; /* GDAL's rule for every method: no value where the pixel has none */
    if (job->method == NEAREST) {
        *out = under;
        return;
    }
    int found;
    if (job->plain && job->method == BILINEAR) {
        found = OF(of_four)(job, nodata, place[0], place[1], &value);
    } else if (job->plain && job->method == CUBIC) {
        found = OF(of_sixteen)(job, nodata, place[0], place[1], &value);
    } else {
        fill_taps(across, &job->across, job->method, place[0], job->cols);
        fill_taps(down, &job->down, job->method, place[1], job->rows);
        found = OF(weighted)(job, nodata, across, down, &value);
    }
    if (found) *out = OF(moved_off)(nodata, OF(rounded)(value));
}

static void OF(cell)(const Job *job, const Cell *cell, Taps *across, Taps *down) {
    OF(Nodata) nodata = {job->nodata != NULL, 0, 0};
    if (nodata.any) {
        memcpy(&nodata.value, job->nodata, sizeof(T));
#ifndef LOW
        nodata.is_nan = nodata.value != nodata.value;
#endif
    }
    for (Py_ssize_t row = 0; row < cell->rows; row++) {
        T *line = (T *)(job->out + (cell->top + row) * job->out_stride) + cell->left;
        const double *place = cell->places + 2 * row * cell->wide;
        for (Py_ssize_t col = 0; col < cell->cols; col++, place += 2)
            OF(pixel)(job, &nodata, place, place + 2 * (cell->wide + 1), across, down, line + col);
    }
}

#undef T
#undef OF
#undef LOW
#undef HIGH
