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

UNREACHED = """() => [...document.querySelectorAll('body *')].filter(e => {
    const style = getComputedStyle(e);
    const scrolls = /auto|scroll/.test(style.overflowX) && e.scrollWidth > e.clientWidth + 1;
    return scrolls && e.tabIndex < 0 && !e.querySelector('a, summary, [tabindex]');
}).map(e => e.outerHTML.slice(0, 80))"""

USED = "[...document.querySelectorAll('a, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility()).length"

FOCUSED = """() => {
    const all = [...document.querySelectorAll('*')], e = document.activeElement, style = getComputedStyle(e);
    return [all.indexOf(e), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
}"""

SILENT = """() => [...document.querySelectorAll('main svg')].filter(e => {
    const said = e.closest('[role=img]');
    return e.getAttribute('aria-hidden') !== 'true' || (e.querySelector('text') && !said?.ariaLabel?.trim());
}).map(e => e.outerHTML.slice(0, 80))"""

HEADLESS = """() => [...document.querySelectorAll('main table')].filter(t => {
    const heads = [...t.querySelectorAll('thead th')];
    const rows = [...t.querySelectorAll('tbody tr:not(.second)')];
    return !heads.length || heads.some(h => h.scope !== 'col' || !h.textContent.trim())
        || !rows.length || rows.some(r => !r.querySelector('th[scope=row]'));
}).map(t => t.outerHTML.slice(0, 200))"""

HIDDEN_ON_PAPER = """() => [...document.querySelectorAll('main *')].filter(e => {
    const style = getComputedStyle(e);
    const cut = /auto|scroll|hidden/.test(style.overflowX) && e.scrollWidth > e.clientWidth + 1;
    return (cut && !e.closest('.sr, svg, thead')) || (e.matches('details > :not(summary)') && !e.checkVisibility());
}).map(e => e.outerHTML.slice(0, 80))"""

FAINT = """() => {
    document.querySelectorAll('details').forEach(d => d.open = true);
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => [0, 1, 2].map(k => top[3] * top[k] + (1 - top[3]) * below[k]).concat(1);
    const behind = e => {
        const own = rgba(getComputedStyle(e).backgroundColor);
        return own[3] === 1 || !e.parentElement ? own : over(own, behind(e.parentElement));
    };
    const light = colour => colour.slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint = new Set();
    while (texts.nextNode()) {
        const e = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !e.checkVisibility() || e.closest('style, .sr')) continue;
        const style = getComputedStyle(e), size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        const back = behind(e), front = over(rgba(e.closest('svg') ? style.fill : style.color), back);
        const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
        const contrast = (high + 0.05) / (low + 0.05), said = texts.currentNode.data.trim().slice(0, 20);
        if (contrast < (large ? 3 : 4.5)) faint.add(`${e.tagName}.${e.className} ${contrast.toFixed(2)} ${said}`);
    }
    return [...faint];
}"""
