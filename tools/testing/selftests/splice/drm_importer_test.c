// SPDX-License-Identifier: GPL-2.0
/*
 * Importers that access a dma-buf of /dev/dma_buf_splice by the CPU: mmap() of
 * vgem, a writeback connector of vkms, and queues of V4L2 (vim2m). They may
 * read any dma-buf, and write to a private one. One that is for reading only is
 * refused before they write to it.
 */
#include "dma_buf_common.h"

#include <drm/drm_fourcc.h>
#include <drm/drm_mode.h>
#include <linux/videodev2.h>

/* Makes a dma-buf of @len bytes of the pattern: private, or of the page cache. */
static void export_pattern(struct __test_metadata *_metadata, int dev,
			   struct dma_buf_splice_export *exp, ssize_t len,
			   bool private)
{
	int file = make_memfd(_metadata, len, DATA), p[2];
	ssize_t sum, part;

	if (!private) {
		ASSERT_EQ(len, dma_buf_gather(file, dev, len));
	} else {
		make_pipe(_metadata, p);
		for (sum = 0; sum < len; sum += part) {
			part = len - sum < 65536 ? len - sum : 65536;
			ASSERT_EQ(part, write_pattern(p[1], part, DATA, sum));
			ASSERT_EQ(part, xsplice(p[0], NULL, dev, NULL, part, 0));
		}
		close(p[0]);
		close(p[1]);
	}
	close(file);
	dma_buf_expect(_metadata, dev, exp, len, 0, private);
}

FIXTURE(vgem) {
	int dev;
	int drm;
	__u64 offset;
	ssize_t len;
	struct dma_buf_splice_export exp;
};

FIXTURE_VARIANT(vgem) {
	bool private;
};

FIXTURE_VARIANT_ADD(vgem, private) {
	.private = true,
};

FIXTURE_VARIANT_ADD(vgem, shared) {
	.private = false,
};

/*
 * DRM does not tell the offset at which an imported buffer is mapped. It is the
 * one that the next buffer of this size gets, if no other is in use.
 */
FIXTURE_SETUP(vgem)
{
	struct drm_mode_create_dumb dumb = {
		.width = page_size() / 4, .height = 4, .bpp = 32,
	};
	struct drm_mode_map_dumb map = {};
	struct drm_mode_destroy_dumb destroy = {};

	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->drm = drm_open("vgem");
	if (self->drm < 0)
		SKIP(return, "no DRM device of vgem");
	self->dev = dma_buf_open(_metadata, 0);
	self->len = 4 * page_size();
	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_MODE_CREATE_DUMB, &dumb));
	ASSERT_EQ(self->len, (ssize_t)dumb.size);
	map.handle = dumb.handle;
	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_MODE_MAP_DUMB, &map));
	destroy.handle = dumb.handle;
	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_MODE_DESTROY_DUMB, &destroy));
	self->offset = map.offset;
	export_pattern(_metadata, self->dev, &self->exp, self->len,
		       variant->private);
	drm_import(_metadata, self->drm, self->exp.fd);
}

FIXTURE_TEARDOWN(vgem)
{
}

/* The file of the importer is open for writing, the dma-buf need not be. */
TEST_F(vgem, mmap)
{
	char *mem, *write;

	mem = mmap(NULL, self->len, PROT_READ, MAP_SHARED, self->drm,
		   self->offset);
	ASSERT_NE(MAP_FAILED, mem) {
		TH_LOG("%s", strerror(errno));
	}
	/* It is the dma-buf. */
	EXPECT_EQ(self->len, match_pattern(mem, self->len, DATA, 0));
	write = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_SHARED,
		     self->drm, self->offset);
	if (!variant->private) {
		EXPECT_EQ(MAP_FAILED, write);
		EXPECT_EQ(EACCES, errno);
		EXPECT_EQ(-EACCES, or_errno(mprotect(mem, page_size(),
						     PROT_READ | PROT_WRITE)));
	} else {
		ASSERT_NE(MAP_FAILED, write);
		fill_pattern(write, self->len, DATA + 1, 0);
		dma_buf_expect_data(_metadata, &self->exp, DATA + 1, 0);
		EXPECT_EQ(0, mprotect(mem, page_size(),
				      PROT_READ | PROT_WRITE));
	}
	/* The mapping alone is a user of the pages. */
	close(self->drm);
	close(self->exp.fd);
	close(self->dev);
	EXPECT_EQ(self->len, match_pattern(mem, self->len,
					   DATA + variant->private, 0));
}

/* vkms, with a picture on its plane and one that its writeback connector fills. */
FIXTURE(vkms) {
	int dev;
	int drm;
	struct drm_mode_modeinfo mode;
	__u32 crtc;
	__u32 connector;
	__u32 plane;
	ssize_t len;
	struct dma_buf_splice_export shown;
	struct dma_buf_splice_export filled;
};

FIXTURE_VARIANT(vkms) {
	bool private;
};

FIXTURE_VARIANT_ADD(vkms, private) {
	.private = true,
};

FIXTURE_VARIANT_ADD(vkms, shared) {
	.private = false,
};

static bool set_capabilities(int drm)
{
	static const __u64 caps[] = {
		DRM_CLIENT_CAP_UNIVERSAL_PLANES, DRM_CLIENT_CAP_ATOMIC,
		DRM_CLIENT_CAP_WRITEBACK_CONNECTORS,
	};
	int i;

	for (i = 0; i < ARRAY_LEN(caps); i++) {
		struct drm_set_client_cap cap = { caps[i], 1 };

		if (ioctl(drm, DRM_IOCTL_SET_CLIENT_CAP, &cap))
			return false;
	}
	return true;
}

/* Returns the property @name of an object, and its value. */
static __u32 property(struct __test_metadata *_metadata, int drm, __u32 object,
		      __u32 type, const char *name, __u64 *value)
{
	__u32 ids[64];
	__u64 values[64];
	struct drm_mode_obj_get_properties all = {
		.props_ptr = (long)ids, .prop_values_ptr = (long)values,
		.count_props = 64, .obj_id = object, .obj_type = type,
	};
	__u32 i;

	ASSERT_EQ(0, ioctl(drm, DRM_IOCTL_MODE_OBJ_GETPROPERTIES, &all));
	for (i = 0; i < all.count_props && i < 64; i++) {
		struct drm_mode_get_property one = { .prop_id = ids[i] };

		ASSERT_EQ(0, ioctl(drm, DRM_IOCTL_MODE_GETPROPERTY, &one));
		if (!strcmp(one.name, name)) {
			if (value)
				*value = values[i];
			return ids[i];
		}
	}
	ASSERT_TRUE(false) {
		TH_LOG("nothing is called %s", name);
	}
	return 0;
}

/* Finds the CRTC, the writeback connector and its mode of 640 x 480. */
static void find_outputs(struct __test_metadata *_metadata,
			 struct _test_data_vkms *self)
{
	__u32 crtcs[8], connectors[8];
	struct drm_mode_card_res res = {
		.crtc_id_ptr = (long)crtcs, .count_crtcs = 8,
		.connector_id_ptr = (long)connectors, .count_connectors = 8,
	};
	__u32 i, j;

	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_MODE_GETRESOURCES, &res));
	ASSERT_LT(0, res.count_crtcs);
	self->crtc = crtcs[0];
	for (i = 0; i < res.count_connectors && i < 8; i++) {
		struct drm_mode_modeinfo modes[64];
		struct drm_mode_get_connector get = {
			.connector_id = connectors[i],
		};

		/* The first call finds the modes. */
		ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_MODE_GETCONNECTOR,
				   &get));
		if (get.connector_type != DRM_MODE_CONNECTOR_WRITEBACK)
			continue;
		get = (struct drm_mode_get_connector) {
			.connector_id = connectors[i],
			.modes_ptr = (long)modes, .count_modes = 64,
		};
		ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_MODE_GETCONNECTOR,
				   &get));
		for (j = 0; j < get.count_modes && j < 64; j++) {
			if (modes[j].hdisplay == 640 &&
			    modes[j].vdisplay == 480) {
				self->connector = connectors[i];
				self->mode = modes[j];
			}
		}
	}
}

static void find_plane(struct __test_metadata *_metadata,
		       struct _test_data_vkms *self)
{
	__u32 planes[16], i;
	struct drm_mode_get_plane_res res = {
		.plane_id_ptr = (long)planes, .count_planes = 16,
	};
	__u64 type;

	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_MODE_GETPLANERESOURCES, &res));
	for (i = 0; i < res.count_planes && i < 16; i++) {
		property(_metadata, self->drm, planes[i], DRM_MODE_OBJECT_PLANE,
			 "type", &type);
		if (type == 1) /* primary */
			self->plane = planes[i];
	}
	ASSERT_NE(0, self->plane);
}

FIXTURE_SETUP(vkms)
{
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->drm = drm_open("vkms");
	if (self->drm < 0)
		SKIP(return, "no DRM device of vkms");
	ASSERT_TRUE(set_capabilities(self->drm));
	find_outputs(_metadata, self);
	if (!self->connector)
		SKIP(return, "vkms has no writeback connector");
	find_plane(_metadata, self);
	self->dev = dma_buf_open(_metadata, 0);
	self->len = 640 * 480 * 4;
	/* The picture that is shown is of the page cache in both cases. */
	export_pattern(_metadata, self->dev, &self->shown, self->len, false);
	export_pattern(_metadata, self->dev, &self->filled, self->len,
		       variant->private);
}

FIXTURE_TEARDOWN(vkms)
{
}

static __u32 add_fb(struct __test_metadata *_metadata, int drm, int buf)
{
	struct drm_mode_fb_cmd2 fb = {
		.width = 640, .height = 480,
		.pixel_format = DRM_FORMAT_XRGB8888,
		.handles = { drm_import(_metadata, drm, buf) },
		.pitches = { 640 * 4 },
	};

	ASSERT_EQ(0, ioctl(drm, DRM_IOCTL_MODE_ADDFB2, &fb)) {
		TH_LOG("%s", strerror(errno));
	}
	return fb.fb_id;
}

/* The properties of one object in a commit. */
struct setting {
	const char *name;
	__u64 value;
};

/* Shows one picture and writes the screen to the other one. */
static ssize_t write_back(struct __test_metadata *_metadata,
			  struct _test_data_vkms *self, __s32 *fence)
{
	struct drm_mode_create_blob mode = {
		.data = (long)&self->mode, .length = sizeof(self->mode),
	};
	__u32 shown = add_fb(_metadata, self->drm, self->shown.fd);
	__u32 filled = add_fb(_metadata, self->drm, self->filled.fd);

	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_MODE_CREATEPROPBLOB, &mode));

	struct setting settings[] = {
		{ "ACTIVE", 1 }, { "MODE_ID", mode.blob_id },
		{ "FB_ID", shown }, { "CRTC_ID", self->crtc },
		{ "SRC_X", 0 }, { "SRC_Y", 0 },
		{ "SRC_W", 640 << 16 }, { "SRC_H", 480 << 16 },
		{ "CRTC_X", 0 }, { "CRTC_Y", 0 },
		{ "CRTC_W", 640 }, { "CRTC_H", 480 },
		{ "CRTC_ID", self->crtc }, { "WRITEBACK_FB_ID", filled },
		{ "WRITEBACK_OUT_FENCE_PTR", (long)fence },
	};
	__u32 objects[] = { self->crtc, self->plane, self->connector };
	__u32 types[] = {
		DRM_MODE_OBJECT_CRTC, DRM_MODE_OBJECT_PLANE,
		DRM_MODE_OBJECT_CONNECTOR,
	};
	__u32 counts[] = { 2, 10, 3 };
	__u32 ids[ARRAY_LEN(settings)], i, j, at = 0;
	__u64 values[ARRAY_LEN(settings)];

	for (i = 0; i < 3; i++) {
		for (j = 0; j < counts[i]; j++, at++) {
			ids[at] = property(_metadata, self->drm, objects[i],
					   types[i], settings[at].name, NULL);
			values[at] = settings[at].value;
		}
	}

	struct drm_mode_atomic atomic = {
		.flags = DRM_MODE_ATOMIC_ALLOW_MODESET, .count_objs = 3,
		.objs_ptr = (long)objects, .count_props_ptr = (long)counts,
		.props_ptr = (long)ids, .prop_values_ptr = (long)values,
	};

	return or_errno(ioctl(self->drm, DRM_IOCTL_MODE_ATOMIC, &atomic));
}

/* The colours of the pattern without the byte of each pixel that has none. */
static bool same_colours(const __u32 *a, const __u32 *b, ssize_t len)
{
	ssize_t i;

	for (i = 0; i < len / 4; i++) {
		if ((a[i] ^ b[i]) & 0xffffff)
			return false;
	}
	return true;
}

TEST_F_TIMEOUT(vkms, writeback, 120)
{
	char *want = alloc_pattern(_metadata, self->len, DATA), *mem;
	__s32 fence = -1;

	if (!variant->private) {
		EXPECT_EQ(-EACCES, write_back(_metadata, self, &fence));
		dma_buf_expect_data(_metadata, &self->filled, DATA, 0);
		free(want);
		return;
	}
	mem = dma_buf_map(&self->filled, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	memset(mem, 0, self->len);
	ASSERT_EQ(0, write_back(_metadata, self, &fence));
	ASSERT_EQ(POLLIN, poll_for(fence, POLLIN, 60000));
	EXPECT_TRUE(same_colours((void *)mem, (void *)want, self->len));
	dma_buf_expect_data(_metadata, &self->shown, DATA, 0);
	munmap(mem, self->len);
	free(want);
}

/* vim2m copies from the buffers of one queue to those of another one. */
#define WIDTH 64
#define HEIGHT 64

FIXTURE(v4l2) {
	int dev;
	int video;
	ssize_t len;
	struct dma_buf_splice_export exp;
};

FIXTURE_VARIANT(v4l2) {
	bool private;		/* the memory of the capture queue */
};

FIXTURE_VARIANT_ADD(v4l2, private) {
	.private = true,
};

FIXTURE_VARIANT_ADD(v4l2, shared) {
	.private = false,
};

static int video_open(const char *driver)
{
	char path[64];
	int i, fd;

	for (i = 0; i < 8; i++) {
		struct v4l2_capability cap = {};

		snprintf(path, sizeof(path), "/dev/video%d", i);
		fd = open(path, O_RDWR);
		if (fd >= 0 && !ioctl(fd, VIDIOC_QUERYCAP, &cap) &&
		    !strcmp((char *)cap.driver, driver))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return -1;
}

/* Makes a queue of one buffer that is a dma-buf. */
static void make_queue(struct __test_metadata *_metadata,
		       struct _test_data_v4l2 *self, int type)
{
	struct v4l2_requestbuffers req = {
		.count = 1, .type = type, .memory = V4L2_MEMORY_DMABUF,
	};
	struct v4l2_format fmt = {
		.type = type,
		.fmt.pix = {
			.width = WIDTH, .height = HEIGHT,
			.pixelformat = V4L2_PIX_FMT_RGB565,
			.field = V4L2_FIELD_NONE,
		},
	};

	ASSERT_EQ(0, ioctl(self->video, VIDIOC_S_FMT, &fmt));
	self->len = fmt.fmt.pix.sizeimage;
	ASSERT_EQ(WIDTH * HEIGHT * 2, self->len);
	ASSERT_EQ(0, ioctl(self->video, VIDIOC_REQBUFS, &req));
}

static ssize_t queue(struct _test_data_v4l2 *self, int type, int buf)
{
	struct v4l2_buffer arg = {
		.type = type, .memory = V4L2_MEMORY_DMABUF, .m.fd = buf,
		.bytesused = self->len, .field = V4L2_FIELD_NONE,
	};

	return or_errno(ioctl(self->video, VIDIOC_QBUF, &arg));
}

FIXTURE_SETUP(v4l2)
{
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->video = video_open("vim2m");
	if (self->video < 0)
		SKIP(return, "no video device of vim2m");
	self->dev = dma_buf_open(_metadata, 0);
	make_queue(_metadata, self, V4L2_BUF_TYPE_VIDEO_OUTPUT);
	make_queue(_metadata, self, V4L2_BUF_TYPE_VIDEO_CAPTURE);
	export_pattern(_metadata, self->dev, &self->exp, self->len,
		       variant->private);
}

FIXTURE_TEARDOWN(v4l2)
{
}

TEST_F_TIMEOUT(v4l2, capture, 60)
{
	int types[] = {
		V4L2_BUF_TYPE_VIDEO_OUTPUT, V4L2_BUF_TYPE_VIDEO_CAPTURE,
	};
	struct v4l2_buffer done = {
		.type = types[1], .memory = V4L2_MEMORY_DMABUF,
	};
	struct dma_buf_splice_export source;
	char *mem;
	int i;

	if (!variant->private) {
		EXPECT_EQ(-EACCES, queue(self, types[1], self->exp.fd));
		dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
		return;
	}
	/* The source is of the page cache: that is for reading. */
	export_pattern(_metadata, self->dev, &source, self->len, false);
	mem = dma_buf_map(&self->exp, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	memset(mem, 0, self->len);
	ASSERT_EQ(0, queue(self, types[0], source.fd));
	ASSERT_EQ(0, queue(self, types[1], self->exp.fd));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ioctl(self->video, VIDIOC_STREAMON, &types[i]));
	ASSERT_EQ(POLLIN, poll_for(self->video, POLLIN, 30000) & POLLIN);
	ASSERT_EQ(0, ioctl(self->video, VIDIOC_DQBUF, &done));
	EXPECT_EQ(0, done.flags & V4L2_BUF_FLAG_ERROR);
	EXPECT_EQ(self->len, match_pattern(mem, self->len, DATA, 0));
	munmap(mem, self->len);
	dma_buf_expect_data(_metadata, &source, DATA, 0);
}

TEST_HARNESS_MAIN
