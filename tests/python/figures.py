"""What tests ask of pictures."""

from matplotlib.text import Text

from dropgemm.__main__ import main


def show(options, folder):
    """Runs `dropgemm show` for a picture in a folder."""
    return main(["show", *options.split(), "--plot", f"{folder}/picture.png"])


def words(figure):
    """All that is written on a page, outside of its panels."""
    return " ".join(text.get_text() for text in figure.texts).replace("\xa0", " ")


def undrawn_labels(axes):
    """Those of ticks past the ends of an axis, which matplotlib keeps but does not draw."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield tick.label1


def assert_legible(figure):
    """Every text lies on the page, and no two on each other."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    hidden = {id(label) for axes in figure.axes for label in undrawn_labels(axes)}
    texts = [
        text
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible() and id(text) not in hidden
    ]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    assert len(boxes) > 5
    page = figure.bbox
    for i, (text, box) in enumerate(boxes):
        assert box.x0 >= page.x0, text
        assert box.x1 <= page.x1, text
        assert box.y0 >= page.y0, text
        assert box.y1 <= page.y1, text
        for other, second in boxes[:i]:
            overlap_x = min(box.x1, second.x1) - max(box.x0, second.x0)
            overlap_y = min(box.y1, second.y1) - max(box.y0, second.y0)
            assert overlap_x <= 0 or overlap_y <= 0, (text, other)
