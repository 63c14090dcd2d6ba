"""What a browser is asked about a page."""

BEYOND = """width => [...document.querySelectorAll('main *, header *')].filter(e => {
    const box = e.getBoundingClientRect();
    const scrolls = e.closest('.scroll, pre, svg, .sr') || e.closest('thead');
    return box.right > width + 1 && !scrolls;
}).map(e => e.tagName + ' ' + e.className)"""

SIZES = """() => {
    const size = e => parseFloat(getComputedStyle(e).fontSize);
    const scale = svg => svg.clientWidth / svg.viewBox.baseVal.width;
    const inCharts = [...document.querySelectorAll('svg text')].map(e => size(e) * scale(e.ownerSVGElement));
    return inCharts.concat([...document.querySelectorAll('p, td, th, small, dd, dt')].map(size));
}"""
