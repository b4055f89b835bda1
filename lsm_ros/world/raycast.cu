// Ray caster of the training worlds: one source, compiled by nvcc for the GPU and by g++ (-x c++ -fopenmp) for the CPU.
//
// A block of the GPU, or one turn of a CPU thread, draws one tile of 16x16 pixels in phases:
//   1. list the primitives that the tile's rays can meet       (half-space tests against the tile's frustum)
//   2. cast every pixel's ray at that list                      (closest hit)
//   3. list the primitives that can shade what was hit          (one list a light, one list for contact darkening)
//   4. shade every pixel                                        (shadow rays against those lists, one mirrored bounce)
// On the GPU a thread owns one pixel (LANES = 1) and the lists live in shared memory; on the CPU one thread walks over
// all pixels of the tile (LANES = 256). The loops read the same. reference.py says the same in plain torch.
//
// Units: metres, world frame z up; camera axes x right, y down, z forward; radiance is linear light.

#include <cmath>
#include <cstddef>
#include <cstdint>

constexpr int TILE = 16, PIXELS = TILE * TILE;
constexpr int MAX_PRIMITIVES = 512, MAX_LIGHTS = 4;
constexpr float FAR = 1e6f, LIFT = 1e-3f;           // "no hit"; how far shadow rays start from their surface
constexpr float MESH_LIFT = 2e-3f;                  // how far surfaces of meshes are lifted off their triangles
constexpr int FEW_SHADOW_RAYS = 2, SHADOW_RAYS = 8;    // a light's, of a sample; all where the few do not agree
constexpr float SUN_DISTANCE = 100.0f;              // where shadow rays towards a sun end
constexpr float MESH_SHARE = 0.5f;                  // of the contact darkening of a box, for a mesh in that box
constexpr float TAP_NEAR = 0.06f, TAP_FAR = 0.25f;  // heights at which contact darkening looks around

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define FN static __device__ __forceinline__
#define FN_CALL static __device__ __noinline__
constexpr int LANES = 1;
FN int first() { return threadIdx.x; }
FN int stride() { return PIXELS; }
FN int pixel_of(int) { return threadIdx.x; }
FN int append(int* count) { return atomicAdd(count, 1); }
FN int float_bits(float f) { return __float_as_int(f); }
FN float bits_float(int i) { return __int_as_float(i); }
#else
#include <algorithm>
#include <cstring>
#define FN static inline
#define FN_CALL static
constexpr int LANES = PIXELS;
FN int first() { return 0; }
FN int stride() { return 1; }
FN int pixel_of(int lane) { return lane; }
FN int append(int* count) { return (*count)++; }
FN int float_bits(float f) { int i; std::memcpy(&i, &f, 4); return i; }
FN float bits_float(int i) { float f; std::memcpy(&f, &i, 4); return f; }
#endif

// Floats whose order is that of their keys as integers, so that a block finds minima with integer atomics.
FN int key(float f) { int i = float_bits(f); return i ^ ((i >> 31) & 0x7fffffff); }
FN float from_key(int i) { return bits_float(i ^ ((i >> 31) & 0x7fffffff)); }

FN void lower(int* least, float value) {
    int mine = key(value);
#ifdef __CUDACC__
#if __CUDA_ARCH__ >= 800
    mine = __reduce_min_sync(0xffffffffu, mine);
    if ((threadIdx.x & 31) == 0) atomicMin(least, mine);
#else
    atomicMin(least, mine);
#endif
#else
    if (mine < *least) *least = mine;
#endif
}

// ---------------------------------------------------------------------------------------------------------- vectors
struct vec3 { float x, y, z; };
FN vec3 operator+(vec3 a, vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
FN vec3 operator-(vec3 a, vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
FN vec3 operator*(vec3 a, vec3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
FN vec3 operator*(vec3 a, float s) { return {a.x * s, a.y * s, a.z * s}; }
FN float dot(vec3 a, vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
FN vec3 cross(vec3 a, vec3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
FN vec3 unit(vec3 a) { return a * (1.0f / sqrtf(dot(a, a))); }
FN vec3 mix(vec3 a, vec3 b, float t) { return a + (b - a) * t; }
FN float mix(float a, float b, float t) { return a + (b - a) * t; }
FN float clamp(float x, float lo, float hi) { return fminf(fmaxf(x, lo), hi); }
FN float saturate01(float x) { return clamp(x, 0.0f, 1.0f); }
FN float fraction(float x) { return x - floorf(x); }
FN float away_from_zero(float x) { return fabsf(x) < 1e-12f ? 1e-12f : x; }

// ------------------------------------------------------------------------------------------------------ what is drawn
enum Shape { BOX, ELLIPSOID, CYLINDER, CONE, MESH };    // MESH + i: model i of the library, in the box
enum Pattern { PLAIN, NOISE, CHECKS, STRIPES, RINGS, BRICKS, SPECKLE };

struct alignas(16) Primitive {         // 128 bytes, packed by renderer.py
    float to_unit[12];                 // world -> unit frame of the shape, row major 3x4
    vec3 axis[3], center;              // unit frame -> world: half axes and centre, metres
    vec3 half;                         // lengths of the half axes, metres
    float radius;                      // of the bounding sphere, metres
    int shape, label, instance;
    int material;                      // plus 65536 where it casts no shadow (lamps, sky panes)
};
struct Material {
    vec3 color, color2;
    float pattern, frequency, stretch, contrast, texture, texture_scale, gloss, emission, mirror, seed;
};
struct Light {
    vec3 at, intensity;
    float sun, radius;                 // of its disc: metres, or a tangent for a sun; below 0 it casts no shadow
};
struct vec4 { float x, y, z, w; };
struct alignas(16) Node { vec4 low, high; };                       // low.w: bits of the axis that splits it
struct alignas(16) Triangle { vec4 corner, edge1, edge2; };        // w: bits of the normals at the three corners
struct alignas(16) Model { int32_t node, triangle, triangles, depth; };   // a tree in heap order, as meshes.py says
struct Meshes { const Node* nodes; const Triangle* triangles; const Model* models; };

struct Arguments {                     // mirrored by renderer.py
    const Primitive* primitives; const Material* materials; const Light* lights; const float* ambient;
    const int32_t* counts;             // (N, 3): primitives and lights of a scene, and primitives that it keeps back
    Meshes meshes;                     // the library of furniture models
    const uint32_t* texels;            // mip levels of the atlas one after the other, each (textures, size, size)
    const int64_t* scene;              // (B, V) which scene of the bank
    const float* T_world_cam;          // (B, V, 4, 4)
    const float* K;                    // (B, V, 3, 3)
    const float* distortion;           // (B, V, 2) or null
    const float* shutter;              // (B, V, 6) the camera's shift and turn while it reads its rows, or null
    float* radiance;                   // (B, V, 3, H, W)
    float* depth;                      // (B, V, H, W), 0 where a ray meets nothing
    uint8_t* label;                    // (B, V, H, W), 255 where a ray meets nothing
    int16_t* instance;                 // (B, V, H, W), -1 where a ray meets nothing
    void* stream;
    int32_t images, views, height, width;
    int32_t max_primitives, max_materials, max_lights;
    int32_t textures, texture_size, texture_levels;
    int32_t samples, threads;
    int32_t soft;                      // 0: lights are points where shadows are cast
};

#ifdef __CUDACC__
// A warp walks a list as one: nvcc keeps the place in a register that its lanes share. It also drops a __syncwarp() where it
// takes them to be together, and with furniture models it was wrong: some lanes ran ahead, and after a hundred batches drawing
// died of an illegal instruction (nvcc 13.0, H100). It keeps one whose mask it cannot know.
FN void together(const Arguments& g) { __syncwarp(~(unsigned)(g.views >> 31)); }
FN void sync(const Arguments& g) { together(g); __syncthreads(); }
#else
FN void together(const Arguments&) {}
FN void sync(const Arguments&) {}
#endif

struct Ray { vec3 from, along; };
FN vec3 at(Ray r, float t) { return r.from + r.along * t; }

FN vec3 point_to_unit(const Primitive& p, vec3 x) {
    const float* m = p.to_unit;
    return {m[0] * x.x + m[1] * x.y + m[2] * x.z + m[3], m[4] * x.x + m[5] * x.y + m[6] * x.z + m[7],
            m[8] * x.x + m[9] * x.y + m[10] * x.z + m[11]};
}
FN vec3 vector_to_unit(const Primitive& p, vec3 v) {
    const float* m = p.to_unit;
    return {m[0] * v.x + m[1] * v.y + m[2] * v.z, m[4] * v.x + m[5] * v.y + m[6] * v.z,
            m[8] * v.x + m[9] * v.y + m[10] * v.z};
}
FN vec3 normal_to_world(const Primitive& p, vec3 n) {     // transpose of world -> unit
    const float* m = p.to_unit;
    return unit({m[0] * n.x + m[4] * n.y + m[8] * n.z, m[1] * n.x + m[5] * n.y + m[9] * n.z,
                 m[2] * n.x + m[6] * n.y + m[10] * n.z});
}

// ------------------------------------------------------------------------------------------------------ intersection
struct Span { float enter, leave; };   // empty where enter >= leave
FN Span overlap(Span a, Span b) { return {fmaxf(a.enter, b.enter), fminf(a.leave, b.leave)}; }

FN Span slab(float o, float d) {
    float inverse = 1.0f / away_from_zero(d), a = (-1.0f - o) * inverse, b = (1.0f - o) * inverse;
    return {fminf(a, b), fmaxf(a, b)};
}
// Where |o + t d|^2 <= 1 in two or three dimensions, with the discriminant taken at the point of closest approach,
// which keeps float32 good for small far shapes (Haines et al., Ray Tracing Gems, 2019, chapter 7).
FN Span ball(float dd, float od, vec3 o, vec3 d, bool flat) {
    float inverse = 1.0f / fmaxf(dd, 1e-20f), middle = -od * inverse;
    vec3 q = o + d * middle;
    float room = 1.0f - (q.x * q.x + q.y * q.y + (flat ? 0.0f : q.z * q.z));
    if (!(room > 0.0f)) return {FAR, -FAR};
    float half = sqrtf(room * inverse);
    return {middle - half, middle + half};
}
FN Span cone_side(vec3 o, vec3 d) {    // x^2 + y^2 <= w^2, w = (1 - z) / 2 >= 0
    float ow = 0.5f * (1.0f - o.z), dw = -0.5f * d.z;
    float a = d.x * d.x + d.y * d.y - dw * dw, b = o.x * d.x + o.y * d.y - ow * dw, c = o.x * o.x + o.y * o.y - ow * ow;
    if (fabsf(a) < 1e-9f) a = a < 0.0f ? -1e-9f : 1e-9f;
    float room = b * b - a * c;
    if (!(room > 0.0f)) return {FAR, -FAR};
    float root = sqrtf(room), t0 = (-b - root) / a, t1 = (-b + root) / a;
    float near = fminf(t0, t1), far = fmaxf(t0, t1);
    if (a > 0.0f) return {near, far};              // in and out through one nappe; the slab of z drops the upper one
    return dw > 0.0f ? Span{far, FAR} : Span{-FAR, near};
}
// The part of the ray o + t d inside the shape, all in its unit frame.
FN Span inside(int shape, vec3 o, vec3 d) {
    if (shape == BOX) return overlap(overlap(slab(o.x, d.x), slab(o.y, d.y)), slab(o.z, d.z));
    if (shape == ELLIPSOID) return ball(dot(d, d), dot(o, d), o, d, false);
    if (shape == CYLINDER)
        return overlap(ball(d.x * d.x + d.y * d.y, o.x * d.x + o.y * d.y, o, d, true), slab(o.z, d.z));
    float shift = -dot(o, d) / dot(d, d);          // solve from the point nearest to the centre, as above
    vec3 q = o + d * shift;
    Span s = overlap(cone_side(q, d), slab(q.z, d.z));
    return {s.enter + shift, s.leave + shift};
}
// Normal in the unit frame where the ray o + t d enters the shape at q.
FN vec3 unit_normal(int shape, vec3 o, vec3 d, vec3 q) {
    if (shape == ELLIPSOID) return q;
    if (shape == BOX) {
        float x = slab(o.x, d.x).enter, y = slab(o.y, d.y).enter, z = slab(o.z, d.z).enter;
        if (x >= y && x >= z) return {d.x > 0.0f ? -1.0f : 1.0f, 0.0f, 0.0f};
        if (y >= z) return {0.0f, d.y > 0.0f ? -1.0f : 1.0f, 0.0f};
        return {0.0f, 0.0f, d.z > 0.0f ? -1.0f : 1.0f};
    }
    float r = sqrtf(q.x * q.x + q.y * q.y);
    if (shape == CYLINDER) return fabsf(q.z) >= r ? vec3{0.0f, 0.0f, q.z > 0.0f ? 1.0f : -1.0f} : vec3{q.x, q.y, 0.0f};
    float base = q.z + 1.0f, side = 0.5f * (1.0f - q.z) - r;          // which of the two surfaces is nearer
    return fabsf(base) <= fabsf(side) ? vec3{0.0f, 0.0f, -1.0f} : vec3{q.x, q.y, 0.5f * r};
}

// Where the ray o + t d meets a triangle (Moeller & Trumbore, 1997); u, v weigh its second and third corner.
struct Touch { float t, u, v; };
FN bool touch(const Triangle& f, vec3 o, vec3 d, Touch& at) {
    vec3 e1 = {f.edge1.x, f.edge1.y, f.edge1.z}, e2 = {f.edge2.x, f.edge2.y, f.edge2.z};
    vec3 p = cross(d, e2), s = o - vec3{f.corner.x, f.corner.y, f.corner.z};
    float det = dot(e1, p);
    if (fabsf(det) < 1e-14f) return false;
    float inverse = 1.0f / det;
    at.u = dot(s, p) * inverse;
    if (!(at.u >= 0.0f && at.u <= 1.0f)) return false;
    vec3 q = cross(s, e1);
    at.v = dot(d, q) * inverse;
    at.t = dot(e2, q) * inverse;
    return at.v >= 0.0f && at.u + at.v <= 1.0f;
}
// The first triangle of a model that the ray o + t d meets between `from` and `t`, or any one; -1 where there is none. The
// nearer child comes first; of the way back up one bit a level is kept: which child it was.
struct Found { float t; int triangle; };
FN Found first_triangle(const Meshes* meshes, int model, vec3 o, vec3 d, float from, float t, bool any) {
    Model m = meshes->models[model];
    const Node* nodes = meshes->nodes + m.node;
    const Triangle* triangles = meshes->triangles + m.triangle;
    vec3 inverse = {1.0f / away_from_zero(d.x), 1.0f / away_from_zero(d.y), 1.0f / away_from_zero(d.z)};
    int found = -1, leaves = 1 << m.depth, i = 1;
    unsigned trail = 0;
    while (true) {
        Node n = nodes[i];
        vec3 a = {(n.low.x - o.x) * inverse.x, (n.low.y - o.y) * inverse.y, (n.low.z - o.z) * inverse.z};
        vec3 b = {(n.high.x - o.x) * inverse.x, (n.high.y - o.y) * inverse.y, (n.high.z - o.z) * inverse.z};
        float enter = fmaxf(fmaxf(fminf(a.x, b.x), fminf(a.y, b.y)), fminf(a.z, b.z));
        float leave = fminf(fminf(fmaxf(a.x, b.x), fmaxf(a.y, b.y)), fmaxf(a.z, b.z));
        if (enter <= leave && leave > from && enter < t) {
            if (i < leaves) {
                int axis = float_bits(n.low.w);
                float along = axis == 0 ? d.x : axis == 1 ? d.y : d.z;
                i = 2 * i + (along < 0.0f ? 1 : 0);
                trail <<= 1;
                continue;
            }
            int k = i - leaves, end = (k + 1) * m.triangles >> m.depth;
            for (int f = k * m.triangles >> m.depth; f < end; ++f) {
                Touch at;
                if (touch(triangles[f], o, d, at) && at.t > from && at.t < t) { t = at.t; found = f; }
            }
            if (any && found >= 0) return {t, found};
        }
        while (trail & 1) { trail >>= 1; i >>= 1; }
        if (i == 1) return {t, found};
        trail |= 1;
        i ^= 1;
    }
}

struct Hit { float t; int primitive, triangle; };  // primitive -1: nothing; the triangle is the model's
FN void closer(const Meshes* meshes, Hit& hit, const Primitive& p, int index, Ray ray, float from) {
    if (p.shape >= MESH) {
        vec3 o = point_to_unit(p, ray.from), d = vector_to_unit(p, ray.along);
        Span s = overlap(overlap(slab(o.x, d.x), slab(o.y, d.y)), slab(o.z, d.z));
        if (!(s.enter <= s.leave + 1e-4f && s.leave > from && s.enter < hit.t)) return;
        Found f = first_triangle(meshes, p.shape - MESH, o, d, from, hit.t, false);
        if (f.triangle >= 0) hit = {f.t, index, f.triangle};
        return;
    }
    Span s = inside(p.shape, point_to_unit(p, ray.from), vector_to_unit(p, ray.along));
    bool better = s.enter < hit.t || (s.enter == hit.t && index < hit.primitive);   // lists come in any order
    if (s.enter < s.leave && s.enter > from && better) hit = {s.enter, index, 0};
}

// ------------------------------------------------------------------------------------------------------------ culling
struct Half { vec3 n; float d; };                  // n.x + d >= 0 is kept
constexpr Half EVERYWHERE = {{0.0f, 0.0f, 0.0f}, 1.0f};
struct Region { Half half[6]; };                   // intersection of half-spaces

// Largest n.(x - center) over the shape (its support function); a cone counts as the cylinder around it.
FN float support(const Primitive& p, vec3 n) {
    float a = dot(n, p.axis[0]), b = dot(n, p.axis[1]), c = dot(n, p.axis[2]);
    if (p.shape == BOX || p.shape >= MESH) return fabsf(a) + fabsf(b) + fabsf(c);
    if (p.shape == ELLIPSOID) return sqrtf(a * a + b * b + c * c);
    return sqrtf(a * a + b * b) + fabsf(c);
}
FN bool touches(const Primitive& p, const Region& region) {
    for (int i = 0; i < 6; ++i) {
        Half h = region.half[i];
        if (dot(h.n, p.center) + h.d + support(p, h.n) < 0.0f) return false;
    }
    return true;
}
FN Half through(vec3 point, vec3 normal, float margin) {
    vec3 n = unit(normal);
    return {n, margin - dot(n, point)};
}
// Points apex + w (axis + u right + v down) with w in 0..reach, u in u0..u1, v in v0..v1, grown by `margin` metres.
FN Region pyramid(vec3 apex, vec3 right, vec3 down, vec3 axis, float u0, float u1, float v0, float v1, float reach,
                  float margin) {
    return {{through(apex, right - axis * u0, margin), through(apex, axis * u1 - right, margin),
             through(apex, down - axis * v0, margin), through(apex, axis * v1 - down, margin),
             through(apex, axis, margin), through(apex + axis * reach, axis * -1.0f, margin)}};
}
FN Region prism(vec3 right, vec3 down, vec3 axis, float u0, float u1, float v0, float v1, float reach, float margin) {
    return {{{right, margin - u0}, {right * -1.0f, margin + u1}, {down, margin - v0}, {down * -1.0f, margin + v1},
             EVERYWHERE, {axis * -1.0f, margin + reach}}};
}

struct List { int shapes, meshes; uint16_t primitive[MAX_PRIMITIVES]; };    // shapes from the front, meshes from the back
FN int length(const List& list) { return list.shapes + list.meshes; }       // shapes come first: they bound the rays
FN int member(const List& list, int i) {
    return list.primitive[i < list.shapes ? i : MAX_PRIMITIVES - 1 - (i - list.shapes)];
}
struct Bounds { int least[6]; };                   // keys of the minima of +-x, +-y, +-z (or u, v, w)
FN float low(const Bounds& b, int i) { return from_key(b.least[i]); }
FN float high(const Bounds& b, int i) { return -from_key(b.least[i + 3]); }
FN void include(Bounds& b, vec3 p, bool counts) {  // every lane calls it; those that don't count add nothing
    lower(&b.least[0], counts ? p.x : FAR);
    lower(&b.least[1], counts ? p.y : FAR);
    lower(&b.least[2], counts ? p.z : FAR);
    lower(&b.least[3], counts ? -p.x : FAR);
    lower(&b.least[4], counts ? -p.y : FAR);
    lower(&b.least[5], counts ? -p.z : FAR);
}
struct LightFrame { vec3 right, down, axis; };     // axis: from the light towards the tile's surfaces

struct Tile {                                      // shared by the pixels of a tile
    List seen, around, shadow[MAX_LIGHTS];
    Region region[1 + MAX_LIGHTS];
    Bounds surfaces, lit[MAX_LIGHTS];
    LightFrame frame[MAX_LIGHTS];
};

struct World {                                     // one scene of the bank, as this image sees it
    const Primitive* primitives; const Material* materials; const Light* lights;
    const Meshes* meshes;
    int primitive_count, light_count, last_material;
    vec3 above, below;
};

// ----------------------------------------------------------------------------------------------------------- patterns
FN uint32_t scramble(uint32_t h) {                 // integer mixer with low bias (Wellons, 2018)
    h ^= h >> 16; h *= 0x7feb352du; h ^= h >> 15; h *= 0x846ca68bu; h ^= h >> 16;
    return h;
}
FN uint32_t cell(int x, int y, int z, uint32_t seed) {
    uint32_t place = (uint32_t)x * 0x9e3779b1u ^ (uint32_t)y * 0x85ebca77u ^ (uint32_t)z * 0xc2b2ae3du;
    return scramble(place ^ seed * 0x27d4eb2fu);
}
FN float chance(uint32_t h) { return (float)(h >> 8) * (1.0f / 16777216.0f); }

FN float value_noise(vec3 p, uint32_t seed) {
    float fx = floorf(p.x), fy = floorf(p.y), fz = floorf(p.z);
    int x = (int)fx, y = (int)fy, z = (int)fz;
    float u = p.x - fx, v = p.y - fy, w = p.z - fz;
    u = u * u * (3.0f - 2.0f * u); v = v * v * (3.0f - 2.0f * v); w = w * w * (3.0f - 2.0f * w);
    float a = mix(mix(chance(cell(x, y, z, seed)), chance(cell(x + 1, y, z, seed)), u),
                  mix(chance(cell(x, y + 1, z, seed)), chance(cell(x + 1, y + 1, z, seed)), u), v);
    float b = mix(mix(chance(cell(x, y, z + 1, seed)), chance(cell(x + 1, y, z + 1, seed)), u),
                  mix(chance(cell(x, y + 1, z + 1, seed)), chance(cell(x + 1, y + 1, z + 1, seed)), u), v);
    return mix(a, b, w);
}
// What of a pattern with cells of size 1 is left when a pixel covers `width` of them: all below a third, none above 1.
FN float visible(float width) { return saturate01(1.5f * (1.0f - width)); }

FN float fractal_noise(vec3 p, uint32_t seed, float width) {
    float sum = 0.5f, share = 0.5f;
    for (int octave = 0; octave < 4 && width < 1.0f; ++octave) {
        sum += share * visible(width) * (value_noise(p, seed + octave) - 0.5f) * 1.6f;
        p = p * 2.03f; width *= 2.03f; share *= 0.5f;
    }
    return saturate01(sum);
}
// Square wave of period 2 between -1 and 1, its edges as wide as a pixel.
FN float square_wave(float x, float width) {
    float phase = fraction(0.5f * x) * 2.0f, sign = phase < 1.0f ? 1.0f : -1.0f;
    float edge = fabsf(phase - floorf(phase + 0.5f));
    return sign * fminf(1.0f, 2.0f * edge / fmaxf(width, 1e-3f)) * visible(width);
}
// Thin line of 1 around every integer, `thick` cells wide in all, softened by a pixel.
FN float line(float x, float thick, float width) {
    float edge = fabsf(x - floorf(x + 0.5f)), soft = fmaxf(width, 1e-3f);
    return saturate01((0.5f * (thick + soft) - edge) / soft) * fminf(1.0f, thick / soft + visible(width));
}

struct Surface {                                   // the place where a ray met a primitive
    vec3 x, n;                                     // world
    vec3 local;                                    // in the shape's own metric frame
    int face;                                      // local axis along which flat patterns are projected
    float pixel;                                   // how much of the surface one pixel covers, metres
    int primitive;                                 // -1: none
    int material;
};

// Share of the second colour, 0..1. (u, v) are the face's metric coordinates, v along the longer side.
FN float pattern_value(const Material& m, vec3 local, float u, float v, int grain, float pixel) {
    int kind = (int)m.pattern;
    uint32_t seed = (uint32_t)m.seed;
    float width = pixel * m.frequency;
    vec3 p = local * m.frequency;
    float along = 1.0f / fmaxf(m.stretch, 1.0f);
    (grain == 0 ? p.x : grain == 1 ? p.y : p.z) *= along;
    float a = u * m.frequency, b = v * m.frequency * along;
    if (kind == NOISE) return fractal_noise(p, seed, width);
    if (kind == CHECKS) return 0.5f + 0.5f * square_wave(a, width) * square_wave(b, width);
    if (kind == STRIPES) return 0.5f + 0.5f * square_wave(a, width);
    if (kind == RINGS) {
        float wobble = fractal_noise(p * 0.5f, seed, 0.5f * width);
        float across = grain == 0 ? p.y + 0.4f * p.z : grain == 1 ? p.x + 0.4f * p.z : p.x + 0.4f * p.y;
        return 0.5f + 0.5f * sinf(6.2831853f * fraction(across + 2.0f * wobble)) * visible(width);
    }
    if (kind == BRICKS) {
        float row = floorf(a), shifted = 0.5f * b + 0.5f * (row - 2.0f * floorf(0.5f * row));
        return fmaxf(line(a, 0.08f, width), line(shifted, 0.05f, 0.5f * width));
    }
    if (kind == SPECKLE) {
        vec3 q = p * 4.0f;
        float spot = chance(cell((int)floorf(q.x), (int)floorf(q.y), (int)floorf(q.z), seed)) > 0.8f ? 1.0f : 0.0f;
        return mix(0.2f, spot, visible(4.0f * width));
    }
    return 0.0f;
}

// Texels are square roots of linear light, 8 bits a channel, so that dark tones survive; they repeat.
FN vec3 texel(const uint32_t* level, int size, int x, int y) {
    x = x < size ? x : x - size;
    y = y < size ? y : y - size;
    uint32_t c = level[y * size + x];
    float r = (float)(c & 255u), g = (float)((c >> 8) & 255u), b = (float)((c >> 16) & 255u);
    return vec3{r * r, g * g, b * b} * (1.0f / 65025.0f);
}
FN vec3 texture_color(const Arguments& g, int index, float u, float v, float width) {
    float wanted = log2f(fmaxf(width * g.texture_size, 1e-6f)) + 0.5f;
    int level = (int)clamp(wanted, 0.0f, (float)(g.texture_levels - 1));
    size_t start = 0;
    int size = g.texture_size;
    for (int i = 0; i < level; ++i) { start += (size_t)g.textures * size * size; size >>= 1; }
    const uint32_t* image = g.texels + start + (size_t)index * size * size;
    float x = fraction(u) * size - 0.5f, y = fraction(v) * size - 0.5f;
    x = x < 0.0f ? x + size : x;
    y = y < 0.0f ? y + size : y;
    int x0 = (int)x, y0 = (int)y;
    x0 = x0 < size ? x0 : size - 1;                // x can round up to `size`
    y0 = y0 < size ? y0 : size - 1;
    float fx = x - x0, fy = y - y0;
    return mix(mix(texel(image, size, x0, y0), texel(image, size, x0 + 1, y0), fx),
               mix(texel(image, size, x0, y0 + 1), texel(image, size, x0 + 1, y0 + 1), fx), fy);
}

FN vec3 albedo(const Arguments& g, const Primitive& p, const Material& m, const Surface& s) {
    vec3 l = s.local, h = p.half;
    float u = s.face == 0 ? l.y : l.x, v = s.face == 2 ? l.y : l.z;
    float hu = s.face == 0 ? h.y : h.x, hv = s.face == 2 ? h.y : h.z;
    if (m.texture >= 0.0f && g.textures > 0 && m.texture_scale <= 0.0f)         // a picture, once over the face, upright
        return m.color * texture_color(g, (int)m.texture, 0.5f - 0.5f * u / hu, 0.5f - 0.5f * v / hv,
                                       0.5f * s.pixel / fmaxf(hu, hv));
    if (hu > hv) { float w = u; u = v; v = w; }    // v runs along the longer side of the face, as wood is cut
    int grain = h.x >= h.y && h.x >= h.z ? 0 : h.y >= h.z ? 1 : 2;
    if (m.texture < 0.0f || g.textures == 0)
        return mix(m.color, m.color2, m.contrast * pattern_value(m, l, u, v, grain, s.pixel));
    uint32_t shift = cell((int)m.seed, s.primitive, 0, 77u);           // two planks of one wood differ
    float tu = u * m.texture_scale + chance(shift), tv = v * m.texture_scale + chance(scramble(shift));
    return m.color * texture_color(g, (int)m.texture, tu, tv, s.pixel * m.texture_scale);
}

// ------------------------------------------------------------------------------------------------------------ shading
FN vec3 octahedral(unsigned bits) {                // 14 bits a coordinate (Cigolle et al., JCGT 2014)
    float x = (bits & 16383u) * (2.0f / 16383.0f) - 1.0f, y = (bits >> 14 & 16383u) * (2.0f / 16383.0f) - 1.0f;
    float z = 1.0f - fabsf(x) - fabsf(y), fold = fmaxf(-z, 0.0f);
    return unit({x >= 0.0f ? x - fold : x + fold, y >= 0.0f ? y - fold : y + fold, z});
}
FN Surface surface_at(const World& world, Hit hit, Ray ray, float pixel_angle) {
    if (hit.primitive < 0) return {{0, 0, 0}, {0, 0, 1}, {0, 0, 0}, 0, 0.0f, -1, 0};
    const Primitive& p = world.primitives[hit.primitive];
    vec3 o = point_to_unit(p, ray.from), d = vector_to_unit(p, ray.along), q = o + d * hit.t, x = at(ray, hit.t), n;
    int material = p.material & 0xffff;
    if (p.shape >= MESH) {
        const Triangle& f = world.meshes->triangles[world.meshes->models[p.shape - MESH].triangle + hit.triangle];
        unsigned bits = (unsigned)float_bits(f.corner.w);
        Touch t;
        touch(f, o, d, t);
        n = octahedral(bits) * (1.0f - t.u - t.v) + octahedral((unsigned)float_bits(f.edge1.w)) * t.u +
            octahedral((unsigned)float_bits(f.edge2.w)) * t.v;
        vec3 flat = cross({f.edge1.x, f.edge1.y, f.edge1.z}, {f.edge2.x, f.edge2.y, f.edge2.z});
        if (dot(flat, d) > 0.0f) flat = flat * -1.0f;            // both sides of a triangle can be seen
        if (dot(flat, n) < 0.0f) n = n * -1.0f;
        if (!(dot(n, n) > 1e-6f)) n = flat;
        x = x + normal_to_world(p, flat) * MESH_LIFT;            // smooth normals must not let it shade itself
        material = material + (int)(bits >> 28);
        material = material < world.last_material ? material : world.last_material;
    } else {
        n = unit_normal(p.shape, o, d, q);
    }
    vec3 world_normal = normal_to_world(p, n);
    vec3 flat = {fabsf(n.x) * p.half.y * p.half.z, fabsf(n.y) * p.half.x * p.half.z, fabsf(n.z) * p.half.x * p.half.y};
    int face = flat.x >= flat.y && flat.x >= flat.z ? 0 : flat.y >= flat.z ? 1 : 2;
    float reach = sqrtf(dot(ray.along, ray.along)), facing = -dot(world_normal, ray.along) / reach;
    return {x, world_normal, q * p.half, face, hit.t * pixel_angle / fmaxf(facing, 0.3f), hit.primitive, material};
}

// Distance from x to the primitive, metres; exact outside a box without shear, close for the rest.
FN float distance_to(const Primitive& p, vec3 x) {
    vec3 q = point_to_unit(p, x);
    if (p.shape == ELLIPSOID) {
        vec3 r = {q.x / p.half.x, q.y / p.half.y, q.z / p.half.z};
        float k = sqrtf(dot(q, q));
        vec3 v = q * p.half, reach = v * p.half;           // far from thin ones the first says too little
        float away = sqrtf(dot(v, v)), least = away - sqrtf(dot(reach, reach)) / fmaxf(away, 1e-9f);
        return fmaxf(fmaxf(k * (k - 1.0f) / fmaxf(sqrtf(dot(r, r)), 1e-9f), least), 0.0f);
    }
    vec3 d = {fmaxf(fabsf(q.x) - 1.0f, 0.0f) * p.half.x, fmaxf(fabsf(q.y) - 1.0f, 0.0f) * p.half.y,
              fmaxf(fabsf(q.z) - 1.0f, 0.0f) * p.half.z};
    if (p.shape != BOX && p.shape < MESH) {
        float wide = p.shape == CONE ? 0.5f * (1.0f - clamp(q.z, -1.0f, 1.0f)) : 1.0f;
        d.x = fmaxf(sqrtf(q.x * q.x + q.y * q.y) - wide, 0.0f) * 0.5f * (p.half.x + p.half.y);
        d.y = 0.0f;
    }
    return sqrtf(dot(d, d));
}
// Contact darkening: how much of the room above the surface is taken, seen from two heights (Evans, SIGGRAPH 2006).
FN float openness(const World& world, const List& around, const Surface& s) {
    float near = TAP_NEAR, far = TAP_FAR;
    for (int i = 0; i < length(around); ++i) {
        int index = member(around, i);
        if (index == s.primitive) continue;
        const Primitive& p = world.primitives[index];
        float full = p.shape < MESH ? 1.0f : MESH_SHARE;           // of a mesh the box is known, and most of it is air
        near = fminf(near, mix(TAP_NEAR, distance_to(p, s.x + s.n * TAP_NEAR), full));
        far = fminf(far, mix(TAP_FAR, distance_to(p, s.x + s.n * TAP_FAR), full));
    }
    return 1.0f - 0.35f * (1.0f - near / TAP_NEAR) - 0.45f * (1.0f - far / TAP_FAR);
}

FN bool blocked(const World& world, const List& list, vec3 x, vec3 to) {
    for (int i = 0; i < length(list); ++i) {
        const Primitive& p = world.primitives[member(list, i)];
        vec3 o = point_to_unit(p, x), d = vector_to_unit(p, to);
        if (p.shape >= MESH) {
            Span box = overlap(overlap(slab(o.x, d.x), slab(o.y, d.y)), slab(o.z, d.z));
            if (box.enter <= box.leave + 1e-4f && box.leave > 0.0f && box.enter < 1.0f &&
                first_triangle(world.meshes, p.shape - MESH, o, d, 0.0f, 1.0f, true).triangle >= 0) return true;
            continue;
        }
        Span s = inside(p.shape, o, d);
        if (s.enter < s.leave && s.leave > 0.0f && s.enter < 1.0f) return true;
    }
    return false;
}
// Share of a light's disc that x sees, by points of low discrepancy (van der Corput's for the angle, the golden ratio's
// for the area), begun elsewhere in every pixel. Two that face each other tell whether it is hidden in part at all, which
// makes penumbras a little narrower than they are.
FN float seen_share(const World& world, const List& list, vec3 x, vec3 to, float radius, uint32_t dice) {
    if (!(radius > 0.0f)) return blocked(world, list, x, to) ? 0.0f : 1.0f;
    vec3 axis = unit(to), aside = fabsf(axis.z) < 0.9f ? vec3{0.0f, 0.0f, 1.0f} : vec3{1.0f, 0.0f, 0.0f};
    vec3 right = unit(cross(axis, aside)), down = cross(axis, right);
    float a = chance(dice), b = chance(scramble(dice));
    int free = 0, cast = 0;
    while (cast < SHADOW_RAYS && (cast != FEW_SHADOW_RAYS || (free != 0 && free != cast))) {
        int turned = (cast & 1) << 2 | (cast & 2) | (cast & 4) >> 2;
        float angle = 6.2831853f * (a + turned / (float)SHADOW_RAYS), r = radius * sqrtf(b);
        free += !blocked(world, list, x, to + right * (r * cosf(angle)) + down * (r * sinf(angle)));
        ++cast;
        b += b < 0.381966f ? 0.618034f : -0.381966f;
    }
    return (float)free / cast;
}
// Light that leaves `s` towards the eye. Without a tile (a mirrored surface) nothing is shadowed.
FN vec3 shade(const Arguments& g, const World& world, const Tile* tile, const Surface& s, vec3 view, uint32_t dice) {
    const Primitive& p = world.primitives[s.primitive];
    const Material& m = world.materials[s.material];
    vec3 base = albedo(g, p, m, s);
    float open = tile ? openness(world, tile->around, s) : 1.0f;
    vec3 out = base * mix(world.below, world.above, 0.5f + 0.5f * s.n.z) * open + base * m.emission;
    for (int i = 0; i < world.light_count; ++i) {
        Light light = world.lights[i];
        bool sun = light.sun > 0.5f;
        vec3 to = sun ? light.at : light.at - s.x;
        float far2 = sun ? 1.0f : dot(to, to), facing = dot(to, s.n) / sqrtf(far2);
        if (!(facing > 0.0f)) continue;
        float share = light.radius < 0.0f ? open : 1.0f, reach = sun ? SUN_DISTANCE : 1.0f;
        if (tile && light.radius >= 0.0f)
            share = seen_share(world, tile->shadow[i], s.x + s.n * LIFT, to * reach,
                               g.soft ? light.radius * reach : 0.0f, dice + 7919u * i);
        if (!(share > 0.0f)) continue;
        vec3 halfway = unit(to * (1.0f / sqrtf(far2)) - view);
        float sharp = 8.0f + 120.0f * m.gloss * m.gloss;
        float shine = m.gloss * powf(fmaxf(dot(halfway, s.n), 0.0f), sharp) * 0.02f * (sharp + 8.0f);
        float spread = sun ? 0.0f : light.radius * light.radius;           // a disc's light, not a point's
        out = out + (base + vec3{shine, shine, shine}) * light.intensity *
            (share * facing / fmaxf(far2 + spread, 0.05f));
    }
    return out;
}
FN vec3 sky(const World& world, vec3 view) {
    return mix(world.below, world.above, saturate01(0.5f + 2.0f * view.z)) * 2.0f;
}
// What a mirror shows: the closest hit among all primitives, shaded without shadows.
FN_CALL vec3 glimpse(const Arguments& g, const World& world, const Surface& s, vec3 view, float pixel_angle) {
    Ray ray = {s.x + s.n * LIFT, view - s.n * (2.0f * dot(view, s.n))};
    Hit hit = {FAR, -1, 0};
    for (int i = 0; i < world.primitive_count; ++i) {
        const Primitive& p = world.primitives[i];
        vec3 c = p.center - ray.from;
        float along = dot(c, ray.along), reach = hit.t + p.radius;
        if (along < -p.radius || along > reach || dot(c, c) - along * along > p.radius * p.radius) continue;
        closer(world.meshes, hit, p, i, ray, 1e-4f);
    }
    if (hit.primitive < 0) return sky(world, ray.along);
    return shade(g, world, nullptr, surface_at(world, hit, ray, pixel_angle), ray.along, 0u);
}

// -------------------------------------------------------------------------------------------------------------- tiles
struct Camera { vec3 right, down, forward, center; float fx, fy, cx, cy, k1, k2, rows; const float* shutter; };

// Everything is told in the frame that the camera has in the middle of the readout, at time 0.
FN float row_time(const Camera& c, float v) { return v / c.rows - 0.5f; }
FN vec3 row_shift(const Camera& c, float v) {                      // where the camera is while it reads this row
    return c.shutter ? vec3{c.shutter[0], c.shutter[1], c.shutter[2]} * row_time(c, v) : vec3{0.0f, 0.0f, 0.0f};
}
FN vec3 ray_slopes(const Camera& c, float u, float v) {            // x, y of the ray with z = 1
    float x = (u - c.cx) / c.fx, y = (v - c.cy) / c.fy, r2 = x * x + y * y, bend = 1.0f + r2 * (c.k1 + r2 * c.k2);
    vec3 d = {x * bend, y * bend, 1.0f};
    if (!c.shutter) return d;
    d = d + cross({c.shutter[3], c.shutter[4], c.shutter[5]}, d) * row_time(c, v);    // first order: turns of 0.05 rad
    return {d.x / d.z, d.y / d.z, 1.0f};
}
FN vec3 row_center(const Camera& c, float v) {                     // world frame
    if (!c.shutter) return c.center;
    vec3 shift = row_shift(c, v);
    return c.center + c.right * shift.x + c.down * shift.y + c.forward * shift.z;
}
FN Ray camera_ray(const Camera& c, float u, float v) {             // t along it is z, counted from where it starts
    vec3 s = ray_slopes(c, u, v);
    return {row_center(c, v), c.right * s.x + c.down * s.y + c.forward};
}
FN Region tile_region(const Camera& c, float u, float v) {         // the rays of the tile at (u, v) and a pixel around
    float u0 = FAR, u1 = -FAR, v0 = FAR, v1 = -FAR, step = 0.5f * TILE + 1.0f;
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
            vec3 s = ray_slopes(c, u - 1.0f + i * step, v - 1.0f + j * step);
            u0 = fminf(u0, s.x); u1 = fmaxf(u1, s.x); v0 = fminf(v0, s.y); v1 = fmaxf(v1, s.y);
        }
    float margin = 0.0f;                           // rays start this far from the one in the tile's middle at most
    if (c.shutter) { vec3 most = row_shift(c, 0.5f * c.rows + step); margin = sqrtf(dot(most, most)); }
    return pyramid(row_center(c, v + 0.5f * TILE), c.right, c.down, c.forward, u0, u1, v0, v1, FAR, margin);
}
FN LightFrame light_frame(const Light& light, const Bounds& surfaces) {
    vec3 middle = vec3{low(surfaces, 0) + high(surfaces, 0), low(surfaces, 1) + high(surfaces, 1),
                       low(surfaces, 2) + high(surfaces, 2)} * 0.5f;
    vec3 axis = light.sun > 0.5f ? light.at * -1.0f : middle - light.at;
    axis = dot(axis, axis) > 1e-8f ? unit(axis) : vec3{0.0f, 0.0f, -1.0f};
    vec3 right = unit(cross(axis, fabsf(axis.z) < 0.9f ? vec3{0.0f, 0.0f, 1.0f} : vec3{1.0f, 0.0f, 0.0f}));
    return {right, cross(axis, right), axis};
}
// Where a surface lies as the light sees it: slopes and reach for a point, plain coordinates for a sun.
FN vec3 seen_by(const Light& light, const LightFrame& f, vec3 x) {
    if (light.sun > 0.5f) return {dot(x, f.right), dot(x, f.down), dot(x, f.axis)};
    vec3 v = x - light.at;
    float w = dot(v, f.axis), inverse = 1.0f / fmaxf(w, 1e-3f);
    return {dot(v, f.right) * inverse, dot(v, f.down) * inverse, w};
}
FN Region shadow_region(const Light& light, const LightFrame& f, const Bounds& lit, float radius) {
    if (light.sun > 0.5f)
        return prism(f.right, f.down, f.axis, low(lit, 0), high(lit, 0), low(lit, 1), high(lit, 1), high(lit, 2),
                     LIFT + SUN_DISTANCE * radius);
    if (low(lit, 2) <= 2e-3f)                      // surfaces beside or behind the light: no pyramid holds them
        return {{EVERYWHERE, EVERYWHERE, EVERYWHERE, EVERYWHERE, EVERYWHERE, EVERYWHERE}};
    return pyramid(light.at, f.right, f.down, f.axis, low(lit, 0), high(lit, 0), low(lit, 1), high(lit, 1),
                   high(lit, 2), LIFT + radius);
}
FN Region around_region(const Bounds& taps) {      // what is closer than TAP_FAR to the far taps and the surfaces below
    float m = TAP_FAR;
    return {{{{1, 0, 0}, m - low(taps, 0)}, {{-1, 0, 0}, m + high(taps, 0)}, {{0, 1, 0}, m - low(taps, 1)},
             {{0, -1, 0}, m + high(taps, 1)}, {{0, 0, 1}, m - low(taps, 2)}, {{0, 0, -1}, m + high(taps, 2)}}};
}
FN void clear(List& list) { list.shapes = list.meshes = 0; }
FN void keep(List& list, const Primitive& p, int index) {
    int place = p.shape >= MESH ? MAX_PRIMITIVES - 1 - append(&list.meshes) : append(&list.shapes);
    list.primitive[place] = (uint16_t)index;
}
FN void forget(Bounds& b) { for (int i = 0; i < 6; ++i) b.least[i] = key(FAR); }

FN int column(int i) {
#ifdef __CUDACC__
    return ((i >> 5) & 1) * 8 + (i & 7);           // a warp owns 8x4 pixels: its rays meet the same things
#else
    return i % TILE;
#endif
}
FN int row(int i) {
#ifdef __CUDACC__
    return (i >> 6) * 4 + ((i >> 3) & 3);
#else
    return i / TILE;
#endif
}

template <bool ROLLING>                            // compiled twice: cameras without a shutter pay nothing for it
FN void draw_tile(const Arguments& g, Tile& tile, int image, int tile_x, int tile_y) {
    int64_t scene = g.scene[image];
    const float* T = g.T_world_cam + 16 * (size_t)image;
    const float* K = g.K + 9 * (size_t)image;
    const float* ambient = g.ambient + 6 * scene;
    World world = {g.primitives + scene * g.max_primitives, g.materials + scene * g.max_materials,
                   g.lights + scene * g.max_lights, &g.meshes, g.counts[3 * scene], g.counts[3 * scene + 1],
                   g.max_materials - 1,
                   {ambient[0], ambient[1], ambient[2]}, {ambient[3], ambient[4], ambient[5]}};
    Camera camera = {{T[0], T[4], T[8]}, {T[1], T[5], T[9]}, {T[2], T[6], T[10]}, {T[3], T[7], T[11]},
                     K[0], K[4], K[2], K[5], 0.0f, 0.0f, (float)g.height,
                     ROLLING ? g.shutter + 6 * (size_t)image : nullptr};
    if (g.distortion) { camera.k1 = g.distortion[2 * image]; camera.k2 = g.distortion[2 * image + 1]; }
    float pixel_angle = 1.0f / camera.fx;

    // 1. what the tile's rays can meet
    for (int i = first(); i == 0; i += stride()) {
        tile.region[0] = tile_region(camera, (float)tile_x, (float)tile_y);
        clear(tile.seen);
    }
    sync(g);
    for (int i = first(); i < world.primitive_count; i += stride())
        if (touches(world.primitives[i], tile.region[0])) keep(tile.seen, world.primitives[i], i);
    sync(g);

    vec3 sum[LANES];
    for (int lane = 0; lane < LANES; ++lane) sum[lane] = {0.0f, 0.0f, 0.0f};
    for (int sample = 0; sample < g.samples; ++sample) {
        // Sample 0 is the pixel's centre and gives depth and labels; the others lie on a sunflower, radius 0.7 pixels.
        float spread = 0.7f * sqrtf((float)sample / g.samples), turn = 2.3999632f * sample;
        float du = 0.5f + spread * cosf(turn), dv = 0.5f + spread * sinf(turn);
        Surface surface[LANES];

        // 2. what each ray meets
        for (int i = first(); i < 1 + MAX_LIGHTS; i += stride()) forget(i == 0 ? tile.surfaces : tile.lit[i - 1]);
        sync(g);
        for (int lane = 0; lane < LANES; ++lane) {
            int x = tile_x + column(pixel_of(lane)), y = tile_y + row(pixel_of(lane));
            Ray ray = camera_ray(camera, x + du, y + dv);
            Hit hit = {FAR, -1, 0};
            for (int i = 0; i < length(tile.seen); ++i) {
                closer(world.meshes, hit, world.primitives[member(tile.seen, i)], member(tile.seen, i), ray, LIFT);
                together(g);
            }
            surface[lane] = surface_at(world, hit, ray, pixel_angle);
            include(tile.surfaces, surface[lane].x + surface[lane].n * TAP_FAR, hit.primitive >= 0);
            if (sample == 0 && x < g.width && y < g.height) {
                size_t pixel = ((size_t)image * g.height + y) * g.width + x;
                const Primitive* p = hit.primitive < 0 ? nullptr : world.primitives + hit.primitive;
                g.depth[pixel] = p ? hit.t + row_shift(camera, y + dv).z : 0.0f;
                g.label[pixel] = p ? (uint8_t)p->label : 255;
                g.instance[pixel] = p ? (int16_t)p->instance : -1;
            }
        }
        sync(g);

        // 3. what can shade it
        for (int i = first(); i < world.light_count; i += stride())
            tile.frame[i] = light_frame(world.lights[i], tile.surfaces);
        sync(g);
        for (int lane = 0; lane < LANES; ++lane)
            for (int i = 0; i < world.light_count; ++i) {
                Light light = world.lights[i];
                const Surface& s = surface[lane];
                bool lit = s.primitive >= 0 && dot(light.sun > 0.5f ? light.at : light.at - s.x, s.n) > 0.0f;
                include(tile.lit[i], seen_by(light, tile.frame[i], s.x), lit);
            }
        sync(g);
        for (int i = first(); i < 1 + world.light_count; i += stride()) {
            clear(i == 0 ? tile.around : tile.shadow[i - 1]);
            tile.region[i] = i == 0 ? around_region(tile.surfaces)
                : shadow_region(world.lights[i - 1], tile.frame[i - 1], tile.lit[i - 1],
                                g.soft ? fmaxf(world.lights[i - 1].radius, 0.0f) : 0.0f);
        }
        sync(g);
        for (int i = first(); i < world.primitive_count; i += stride()) {
            const Primitive& p = world.primitives[i];
            if (p.material >> 16) continue;        // what shines neither casts shadows nor darkens
            if (touches(p, tile.region[0])) keep(tile.around, p, i);
            for (int l = 0; l < world.light_count; ++l)
                if (world.lights[l].radius >= 0.0f && touches(p, tile.region[1 + l])) keep(tile.shadow[l], p, i);
        }
        sync(g);

        // 4. how it looks
        for (int lane = 0; lane < LANES; ++lane) {
            int x = tile_x + column(pixel_of(lane)), y = tile_y + row(pixel_of(lane));
            vec3 view = unit(camera_ray(camera, x + du, y + dv).along);
            const Surface& s = surface[lane];
            if (s.primitive < 0) { sum[lane] = sum[lane] + sky(world, view); continue; }
            vec3 out = shade(g, world, &tile, s, view, cell(x, y, image, 13u + sample));
            float mirror = world.materials[s.material].mirror;
            if (mirror > 0.0f) out = mix(out, glimpse(g, world, s, view, pixel_angle), mirror);
            sum[lane] = sum[lane] + out;
        }
        sync(g);
    }
    for (int lane = 0; lane < LANES; ++lane) {
        int x = tile_x + column(pixel_of(lane)), y = tile_y + row(pixel_of(lane));
        if (x >= g.width || y >= g.height) continue;
        size_t area = (size_t)g.height * g.width, pixel = (size_t)image * 3 * area + (size_t)y * g.width + x;
        vec3 mean = sum[lane] * (1.0f / g.samples);
        g.radiance[pixel] = mean.x;
        g.radiance[pixel + area] = mean.y;
        g.radiance[pixel + 2 * area] = mean.z;
    }
}

// -------------------------------------------------------------------------------------------------------------- doors
#ifdef __CUDACC__
template <bool ROLLING>
__global__ void __launch_bounds__(PIXELS, 4) draw(const __grid_constant__ Arguments g) {
    __shared__ Tile tile;
    int across = (g.width + TILE - 1) / TILE, down = (g.height + TILE - 1) / TILE;
    int image = blockIdx.x / (across * down), place = blockIdx.x % (across * down);
    draw_tile<ROLLING>(g, tile, image, place % across * TILE, place / across * TILE);
}
#endif

extern "C" {
int raycast_arguments_bytes() { return (int)sizeof(Arguments); }
int raycast_primitive_bytes() { return (int)sizeof(Primitive); }
int raycast_max_primitives() { return MAX_PRIMITIVES; }
int raycast_max_lights() { return MAX_LIGHTS; }

// Starts the drawing on the stream (GPU), or draws (CPU). Returns nullptr, or what went wrong.
const char* raycast(const Arguments* arguments) {
    Arguments g = *arguments;
    int across = (g.width + TILE - 1) / TILE, down = (g.height + TILE - 1) / TILE, tiles = g.images * across * down;
    if (tiles == 0) return nullptr;
#ifdef __CUDACC__
    auto kernel = g.shutter ? draw<true> : draw<false>;
    kernel<<<tiles, PIXELS, 0, (cudaStream_t)g.stream>>>(g);
    cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
#else
#pragma omp parallel for schedule(dynamic, 8) num_threads(g.threads)
    for (int i = 0; i < tiles; ++i) {
        Tile tile;
        auto paint = g.shutter ? draw_tile<true> : draw_tile<false>;
        paint(g, tile, i / (across * down), i % across * TILE, i / across % down * TILE);
    }
    return nullptr;
#endif
}
}
